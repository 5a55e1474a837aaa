//! Command lines as people and launchers write them.

use proptest::prelude::*;

use super::*;

fn parse_words(words: &[&str]) -> Result<Invocation, UsageError> {
    let arguments: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    parse(&arguments, &|path| match path.to_str() {
        Some("args") => Ok(b"# options\n\n-l\nlogback.xml\napp.properties\n".to_vec()),
        _ => Err(io::ErrorKind::NotFound.into()),
    })
}

fn run_of(line: &str) -> Run {
    match parse_words(
        &line
            .split(' ')
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>(),
    ) {
        Ok(Invocation::Run(run)) => run,
        other => panic!("{line}: {other:?}"),
    }
}

fn error_of(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
    parse_words(&words).expect_err(line).to_string()
}

#[test]
fn a_file_alone_is_run() {
    assert_eq!(run_of("app.properties").properties.name, "app.properties");
    assert_eq!(run_of("run app.properties"), run_of("app.properties"));
    assert_eq!(run_of("-p app.properties"), run_of("app.properties"));
    assert_eq!(
        run_of("--properties-file app.properties"),
        run_of("app.properties")
    );
    assert_eq!(
        run_of("--properties-file=app.properties"),
        run_of("app.properties")
    );
    assert_eq!(run_of("./run").properties.name, "./run");
}

#[test]
fn the_option_wins_over_the_argument_with_a_warning() {
    let run = run_of("a.properties -p b.properties");
    assert_eq!(run.properties.name, "b.properties");
    assert_eq!(
        run.warnings,
        ["overriding the properties file with the --properties-file option"]
    );
}

#[test]
fn an_option_takes_the_next_word_whatever_it_is() {
    assert_eq!(run_of("-p -l").properties.name, "-l");
}

#[test]
fn arguments_come_from_a_file_too() {
    let run = run_of("@args");
    assert_eq!(run.properties.name, "app.properties");
    assert_eq!(run.log.configuration, Some(PathBuf::from("logback.xml")));
    assert!(error_of("@missing").starts_with("cannot read arguments from 'missing'"));
}

#[test]
fn log_options_are_read() {
    let log = run_of("--json --log-level debug -l x.xml app.properties").log;
    assert_eq!(log.format, Some(LogFormat::Json));
    assert_eq!(log.level, Some(LogLevel::Debug));
    assert_eq!(log.configuration, Some(PathBuf::from("x.xml")));
    assert_eq!(
        run_of("--log-format text app.properties").log.format,
        Some(LogFormat::Text)
    );
}

#[test]
fn launchers_of_the_official_clients_are_understood() {
    let class = "software.amazon.kinesis.multilang.MultiLangDaemon";
    let v1 = "com.amazonaws.services.kinesis.multilang.MultiLangDaemon";
    for line in [
        format!("-cp /a/x.jar:/b:/c {class} --properties-file app.properties"),
        format!("-classpath /a/x.jar:/b:/c {class} --properties-file app.properties"),
        format!("--class-path /a/x.jar:/b:/c {class} -p app.properties"),
        format!("--class-path=/a/x.jar:/b:/c {class} app.properties"),
        format!(
            "-server -ea -Xmx2g -XX:+UseG1GC -javaagent:a.jar --add-opens a/b=c -cp /a/x.jar:/b:/c {v1} app.properties"
        ),
        format!("-cp /old -cp /a/x.jar:/b:/c {class} app.properties"),
    ] {
        let run = run_of(&line);
        assert_eq!(run.properties.name, "app.properties", "{line}");
        assert_eq!(
            run.properties.class_path,
            ["/a/x.jar", "/b", "/c"].map(PathBuf::from),
            "{line}"
        );
    }
    let run = run_of(&format!(
        "-cp :/b {class} --properties-file p --log-configuration l.xml"
    ));
    assert_eq!(run.properties.class_path, [".", "/b"].map(PathBuf::from));
    assert_eq!(run.log.configuration, Some(PathBuf::from("l.xml")));
}

#[test]
fn system_properties_are_kept() {
    let class = "software.amazon.kinesis.multilang.MultiLangDaemon";
    let run = run_of(&format!(
        "-Daws.region=eu-west-1 -Daws.cborEnabled=false -Dflag {class} app.properties"
    ));
    let kept: Vec<(&str, &str)> = run
        .properties
        .system_properties
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        kept,
        [
            ("aws.cborEnabled", "false"),
            ("aws.region", "eu-west-1"),
            ("flag", "")
        ]
    );
    assert_eq!(
        run_of("-Dx=y app.properties").properties.system_properties["x"],
        "y"
    );
}

#[test]
fn java_is_asked_for_its_version_and_for_nothing_else() {
    assert_eq!(parse_words(&["-version"]), Ok(Invocation::JavaVersion));
    assert_eq!(parse_words(&["-Xmx1g", "-version"]), Ok(Invocation::JavaVersion));
    assert!(error_of("-cp x com.example.Main arg").contains("not 'com.example.Main'"));
    assert!(error_of("-cp x com.example.Main").contains("not 'com.example.Main'"));
    assert!(java_version("1.2.3").starts_with("openjdk version \"17\""));
}

#[test]
fn words_after_the_main_class_are_no_commands() {
    assert_eq!(
        run_of("software.amazon.kinesis.multilang.MultiLangDaemon run")
            .properties
            .name,
        "run"
    );
}

#[test]
fn local_services_have_options() {
    let run = run_of(
        "run --local --data d --limits aws --subscription-life 6 --kinesis-port 4567 --dynamodb-port 8000 app.properties",
    );
    let expected = LocalServices {
        data: Data::Directory("d".into()),
        kinesis_port: 4567,
        dynamodb_port: 8000,
        aws_limits: true,
        subscription_life_secs: Some(6),
    };
    assert_eq!(run.local, Some(expected));
    assert_eq!(
        run_of("--local app.properties").local,
        Some(LocalServices::default())
    );
    assert_eq!(
        run_of("--local --memory app.properties").local.unwrap().data,
        Data::Memory
    );
    assert_eq!(run_of("app.properties").local, None);
    match parse_words(&["local", "--memory", "--kinesis-port", "4567"]) {
        Ok(Invocation::Local(local)) => {
            assert_eq!(
                (local.services.data, local.services.kinesis_port),
                (Data::Memory, 4567)
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn validate_takes_a_file() {
    match parse_words(&["validate", "--local", "app.properties"]) {
        Ok(Invocation::Validate(validate)) => {
            assert_eq!(
                (validate.properties.name.as_str(), validate.local),
                ("app.properties", true)
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn put_takes_a_stream_and_perhaps_a_file() {
    let line = "put words lines.txt --partition-key k --region eu-west-1 --endpoint http://localhost:1 --rate 5 -p a.properties";
    match parse_words(&line.split(' ').collect::<Vec<_>>()) {
        Ok(Invocation::Put(put)) => {
            assert_eq!(put.stream, "words");
            assert_eq!(put.file, Some(PathBuf::from("lines.txt")));
            assert_eq!(put.partition_key.as_deref(), Some("k"));
            assert_eq!(put.endpoint.as_deref(), Some("http://localhost:1"));
            assert_eq!(put.region.as_deref(), Some("eu-west-1"));
            assert_eq!(put.records_per_second_max, Some(5));
            assert_eq!(
                put.properties.map(|properties| properties.name).as_deref(),
                Some("a.properties")
            );
        }
        other => panic!("{other:?}"),
    }
    match parse_words(&["put", "words", "-", "--local"]) {
        Ok(Invocation::Put(put)) => assert_eq!((put.file, put.local), (None, true)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn help_and_version_are_found_anywhere() {
    assert_eq!(parse_words(&["--help"]), Ok(Invocation::Help(Topic::General)));
    assert_eq!(parse_words(&["-h"]), Ok(Invocation::Help(Topic::General)));
    assert_eq!(parse_words(&["help", "put"]), Ok(Invocation::Help(Topic::Put)));
    assert_eq!(parse_words(&["run", "--help"]), Ok(Invocation::Help(Topic::Run)));
    assert_eq!(parse_words(&["--version"]), Ok(Invocation::Version));
    for topic in [
        Topic::General,
        Topic::Run,
        Topic::Validate,
        Topic::Local,
        Topic::Put,
    ] {
        assert!(
            help(topic).lines().all(|line| line.chars().count() <= 90),
            "{topic:?}"
        );
    }
}

#[test]
fn every_option_is_in_the_help_of_its_command() {
    for (topic, groups) in [
        (Topic::Run, &[&PROPERTIES[..1], LOG, LOCAL, SERVICES][..]),
        (Topic::Validate, &[&PROPERTIES[..1], LOCAL]),
        (Topic::Local, &[SERVICES]),
        (Topic::Put, &[PUT, LOCAL]),
    ] {
        for option in groups.concat() {
            assert!(
                help(topic).contains(option.names[0]),
                "{topic:?} {}",
                option.names[0]
            );
        }
    }
}

#[test]
fn mistakes_are_named_with_the_nearest_option() {
    for (line, error) in [
        ("", "properties file missing, please provide a properties file"),
        (
            "a.properties b.properties",
            "expected a single argument, but found multiple arguments: a.properties, b.properties",
        ),
        (
            "validte a.properties",
            "expected a single argument, but found multiple arguments: validte, a.properties; did you mean the command 'validate'?",
        ),
        ("-p", "-p needs a value after it"),
        ("-p a -p b", "-p is given twice"),
        ("-p a --properties-file b", "--properties-file is given twice"),
        (
            "--propertes-file a",
            "there is no option --propertes-file; did you mean --properties-file?",
        ),
        ("--loca a", "there is no option --loca; did you mean --local?"),
        ("-z a", "there is no option -z; see multilangd --help"),
        ("--local=yes a", "--local takes no value"),
        ("--memory a", "--memory needs --local"),
        (
            "--local --memory --data d a",
            "--memory and --data exclude each other",
        ),
        (
            "--local --limits azure a",
            "--limits 'azure': accepted are aws and none",
        ),
        (
            "local --kinesis-port 70000",
            "--kinesis-port '70000': accepted is a whole number from 0 to 65535",
        ),
        (
            "local --kinesis-port 5 --dynamodb-port 5",
            "--kinesis-port and --dynamodb-port must differ",
        ),
        (
            "local app.properties",
            "local takes no file, but there is 'app.properties'; did you mean 'run --local app.properties'?",
        ),
        ("put", "put needs the name of a stream: put STREAM [FILE]"),
        (
            "put a b c",
            "put takes a stream and a file, but there is also 'c'",
        ),
        (
            "put a --endpoint localhost",
            "--endpoint 'localhost' does not begin with http:// or https://",
        ),
        (
            "put a --rate 0",
            "--rate '0': accepted is a whole number from 1 to 4294967295",
        ),
        (
            "--log-level loud a",
            "--log-level 'loud': accepted are off, error, warn, info, debug and trace",
        ),
        (
            "--log-format xml a",
            "--log-format 'xml': accepted are text and json",
        ),
    ] {
        assert_eq!(error_of(line), error, "{line}");
    }
}

const ANY_WORDS: [&str; 24] = [
    "run",
    "validate",
    "local",
    "put",
    "help",
    "-p",
    "-l",
    "-cp",
    "--local",
    "--memory",
    "--data",
    "--kinesis-port",
    "--rate=5",
    "--",
    "-",
    "-D",
    "-Da=b",
    "-X",
    "@args",
    "@",
    "",
    "-version",
    MAIN_CLASS,
    "app.properties",
];

proptest! {
    #[test]
    fn no_command_line_panics(words in proptest::collection::vec(
        prop_oneof![proptest::sample::select(&ANY_WORDS[..]).prop_map(str::to_owned), "[-a-z@=.é ]{0,8}"], 0..8)
    ) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        if let Err(error) = parse_words(&words) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
