//! Who signs, seen from the services: a daemon whose providers differ by service.

use std::sync::{Arc, Mutex};

use multilangd_tests::daemon::Application;
use multilangd_tests::http::{Request, answering};

#[test]
fn a_role_is_assumed_as_the_file_says_and_signs_for_the_one_service() {
    let (sts, asked) = recording(|_| ("200 OK", "text/xml", ASSUMED.to_owned()));
    let denied = |_: &Request| {
        let body = r#"{"__type":"AccessDeniedException","message":"not today"}"#;
        ("400 Bad Request", "application/x-amz-json-1.1", body.to_owned())
    };
    let (kinesis, streams) = recording(denied);
    let (dynamodb, tables) = recording(denied);
    let role = "arn:aws:iam::111122223333:role/reader";
    let app = Application::local("roles", "s")
        .with("kinesisEndpoint", &kinesis)
        .with("dynamoDBEndpoint", &dynamodb)
        .with(
            "AwsCredentialsProvider",
            format!("KclStsAssumeRoleCredentialsProvider|{role}|my-session|endpoint={sts}^eu-west-1|externalId=abc"),
        )
        .with("awsCredentialsProviderDynamoDB", "StaticCredentialsProvider|AKIATABLE|hush-hush");
    let mut daemon = app.start();
    assert_eq!(
        daemon.wait(),
        1,
        "a table that denies everything is not survived: {}",
        daemon.stderr()
    );

    let asked = asked.lock().unwrap();
    let form = String::from_utf8_lossy(&asked.first().expect("STS was asked").body).into_owned();
    for part in [
        "Action=AssumeRole",
        "RoleArn=arn%3Aaws%3Aiam%3A%3A111122223333%3Arole%2Freader",
    ] {
        assert!(form.contains(part), "{form}");
    }
    assert!(
        form.contains("RoleSessionName=my-session") && form.contains("ExternalId=abc"),
        "{form}"
    );
    // The base credentials are those of the daemon's environment, for the region behind the `^`.
    assert_eq!(
        signer(&asked[0]),
        ("test".to_owned(), "eu-west-1".to_owned(), "sts".to_owned())
    );
    let stream = streams.lock().unwrap().first().map(signer);
    assert_eq!(
        stream,
        Some((
            "ASIAROLE".to_owned(),
            "us-east-1".to_owned(),
            "kinesis".to_owned()
        ))
    );
    let table = tables.lock().unwrap().first().map(signer);
    assert_eq!(
        table,
        Some((
            "AKIATABLE".to_owned(),
            "us-east-1".to_owned(),
            "dynamodb".to_owned()
        ))
    );
    for secret in ["hush-hush", "role-secret", "externalId=abc"] {
        assert!(
            !daemon.stderr().contains(secret),
            "{secret} is in the log: {}",
            daemon.stderr()
        );
    }
}

const ASSUMED: &str = "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>\
    <AssumedRoleUser><AssumedRoleId>AROA:s</AssumedRoleId><Arn>arn:aws:sts::111122223333:assumed-role/reader/s</Arn>\
    </AssumedRoleUser><Credentials><AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>role-secret</SecretAccessKey>\
    <SessionToken>token</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>\
    </AssumeRoleResult></AssumeRoleResponse>";

type Requests = Arc<Mutex<Vec<Request>>>;

/// A service, and what it was asked.
fn recording(
    answer: impl Fn(&Request) -> (&'static str, &'static str, String) + Send + Sync + 'static,
) -> (String, Requests) {
    let requests = Requests::default();
    let notes = requests.clone();
    let endpoint = answering(move |request| {
        notes.lock().unwrap().push(request.clone());
        answer(request)
    });
    (endpoint, requests)
}

/// Access key id, region and service of a signature.
fn signer(request: &Request) -> (String, String, String) {
    let header = request.header("authorization");
    let scope = header.split("Credential=").nth(1).unwrap_or_default();
    let mut parts = scope.split(['/', ',']);
    let mut next = || parts.next().unwrap_or_default().to_owned();
    let (key, _date) = (next(), next());
    (key, next(), next())
}
