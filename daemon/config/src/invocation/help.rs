//! What `--help` prints.

/// What help is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// The program.
    General,
    /// `run`.
    Run,
    /// `validate`.
    Validate,
    /// `local`.
    Local,
    /// `put`.
    Put,
}

impl Topic {
    /// The topic of a command; the program itself for any other word.
    #[must_use]
    pub fn of(command: &str) -> Topic {
        match command {
            "run" => Topic::Run,
            "validate" => Topic::Validate,
            "local" => Topic::Local,
            "put" => Topic::Put,
            _ => Topic::General,
        }
    }
}

/// The help text.
#[must_use]
pub fn help(topic: Topic) -> &'static str {
    match topic {
        Topic::General => GENERAL,
        Topic::Run => RUN,
        Topic::Validate => VALIDATE,
        Topic::Local => LOCAL,
        Topic::Put => PUT,
    }
}

/// What `java -version` is answered with, on stderr.
#[must_use]
pub fn java_version(version: &str) -> String {
    format!(
        "openjdk version \"17\" (not a JVM: multilangd {version} in the place of java, for the KCL MultiLangDaemon only)\n"
    )
}

const GENERAL: &str = "\
multilangd: consumes a Kinesis stream, one child process per shard, in place of the
Java MultiLangDaemon of the KCL

usage:
  multilangd [run] [--local] APP.properties   consume a stream
  multilangd validate APP.properties          show what a properties file means
  multilangd local                            a local Kinesis and DynamoDB alone
  multilangd put STREAM [FILE]                write lines of stdin or a file to a stream
  multilangd help COMMAND                     the options of a command
  multilangd --version

In place of java: multilangd -cp PATH software.amazon.kinesis.multilang.MultiLangDaemon
--properties-file APP.properties, as the launchers of the official clients write it.
";

const RUN: &str = "\
usage: multilangd [run] [options] APP.properties

  -p, --properties-file FILE     the properties file; wins over the argument
  -l, --log-configuration FILE   a logback file, of which the level is used
      --log-level LEVEL          off, error, warn, info, debug or trace; the
                                 environment variable MULTILANGD_LOG wins over it
      --log-format FORMAT        text or json
      --json                     the same as --log-format json
  @FILE                          more arguments, one per line of the file

  --local                        use a Kinesis and a DynamoDB in this process
  --memory                       with --local: keep no data
  --data DIR                     with --local: keep data here (default: .multilangd)
  --limits aws                   with --local: the limits of the real Kinesis per shard
  --subscription-life SECONDS    with --local: of enhanced fan-out (default: 300)
  --kinesis-port N               with --local: default 0, a free port
  --dynamodb-port N              with --local: default 0, a free port

exit codes: 0 stopped in order, 1 wrong configuration or a child failed,
128 + signal after a signal
";

const VALIDATE: &str = "\
usage: multilangd validate [--local] APP.properties

Prints the effective configuration, where each value comes from, every warning and every
error. Secrets are masked.

  -p, --properties-file FILE     the properties file; wins over the argument
  --local                        credentials are not required

exit codes: 0 the daemon would start, 78 it would not
";

const LOCAL: &str = "\
usage: multilangd local [options]

Runs a Kinesis and a DynamoDB on loopback ports and prints their endpoints when they are
ready.

  --memory                       keep no data
  --data DIR                     keep data here (default: .multilangd)
  --limits aws                   the limits of the real Kinesis per shard
  --subscription-life SECONDS    of enhanced fan-out (default: 300, as on AWS)
  --kinesis-port N               default 0, a free port
  --dynamodb-port N              default 0, a free port
  --log-level LEVEL, --log-format FORMAT, --json
";

const PUT: &str = "\
usage: multilangd put [options] STREAM [FILE]

Writes every line of FILE, or of stdin, as one record.

  --partition-key KEY            one key for all records (default: a random one for each)
  --local                        the service of `run --local` or `local` in this directory
  -p, --properties FILE          take region, endpoint and credentials from this file
  --endpoint URL                 where Kinesis is
  --region REGION                the region
  --rate N                       at most N records per second
  --log-level LEVEL, --log-format FORMAT, --json
";
