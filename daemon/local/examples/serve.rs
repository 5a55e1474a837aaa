//! The services alone, for tests that kill them: `serve DIR|- [KINESIS_PORT [DYNAMODB_PORT]] [--limits aws]`.
#![allow(
    clippy::print_stdout,
    reason = "whoever started it reads the endpoints from stdout"
)]

use std::io::Write;

use multilangd_local::{Data, Limits, LocalOptions, start};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let mut options = LocalOptions::default();
    let mut ports = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "-" => {}
            "--limits" => {
                options.limits = if arguments.next().as_deref() == Some("aws") {
                    Limits::Aws
                } else {
                    Limits::None
                }
            }
            "--subscription-life" => {
                let seconds = arguments
                    .next()
                    .and_then(|text| text.parse().ok())
                    .expect("seconds");
                options.subscription_life = std::time::Duration::from_secs(seconds);
            }
            text => match text.parse() {
                Ok(port) => ports.push(port),
                Err(_) => options.data = Data::Dir(text.into()),
            },
        }
    }
    [options.kinesis_port, options.dynamodb_port] = [
        ports.first().copied().unwrap_or(0),
        ports.get(1).copied().unwrap_or(0),
    ];
    match start(options).await {
        Ok(services) => {
            println!("{}", services.kinesis_endpoint());
            println!("{}", services.dynamodb_endpoint());
            std::io::stdout().flush().expect("stdout is open");
            tokio::signal::ctrl_c().await.expect("signals work");
            services.stop().await;
        }
        Err(error) => {
            tracing::error!(%error, "not started");
            std::process::exit(1);
        }
    }
}
