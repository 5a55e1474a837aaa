//! What an AWS call's failure means, said once for all services: by error code first, then by status.

use std::error::Error;
use std::fmt;

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// Slow down, then repeat; nothing happened.
    SlowDown,
    /// Repeat; it may have happened.
    Repeat,
    /// Repeating cannot help until somebody changes something.
    GiveUp,
}

/// A failed call, in words for people.
#[derive(Debug)]
pub struct Failure {
    /// `GetRecords on Kinesis in eu-west-1`.
    what: String,
    /// The service's error code, such as `AccessDeniedException`; `None` where no service answered.
    pub code: Option<String>,
    /// What the service, the credentials provider or the network said.
    pub message: String,
    /// What to do next.
    pub reaction: Reaction,
    request_id: Option<String>,
    advice: Option<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.what)?;
        if let Some(code) = &self.code {
            write!(f, "{code}: ")?;
        }
        f.write_str(&self.message)?;
        if let Some(id) = &self.request_id {
            write!(f, " (request {id})")?;
        }
        match &self.advice {
            Some(advice) => write!(f, "; {advice}"),
            None => Ok(()),
        }
    }
}

impl Error for Failure {}

impl Failure {
    /// Reads an error of the SDK. `service` is the prefix of IAM actions (`kinesis`), `place` says which endpoint.
    pub fn of<E>(
        error: &SdkError<E, HttpResponse>,
        service: &'static str,
        operation: &'static str,
        place: &str,
    ) -> Self
    where
        E: Error + ProvideErrorMetadata + 'static,
    {
        let what = format!("{operation} on {place}");
        if let SdkError::ServiceError(answer) = error {
            let metadata = answer.err().meta();
            let status = answer.raw().status().as_u16();
            return Self::of_answer(
                what,
                service,
                operation,
                status,
                metadata.code(),
                metadata.message(),
                request_id(answer.raw()),
            );
        }
        if let SdkError::ResponseError(answer) = error {
            let status = answer.raw().status().as_u16();
            let message = format!(
                "an answer that cannot be read, status {status}: {}",
                chain(error.source())
            );
            return Self::plain(what, message, Reaction::Repeat);
        }
        if let Some(credentials) = credentials_error(error) {
            return Self::of_credentials(what, credentials);
        }
        let reaction = match error {
            // The request never left: a parameter or the region is wrong, and stays wrong.
            SdkError::ConstructionFailure(_) => Reaction::GiveUp,
            _ => Reaction::Repeat,
        };
        let message = match error {
            SdkError::TimeoutError(_) => format!("no answer in time ({})", chain(error.source())),
            _ => with_advice(chain(error.source())),
        };
        Self::plain(what, message, reaction)
    }

    /// An exception inside an event stream. `code`: `None` for one that this program does not know.
    pub fn of_event(operation: &'static str, place: &str, code: Option<&str>, message: Option<&str>) -> Self {
        // Events carry no status. One that nobody knows is worth another try.
        let status = if code.is_some() { 400 } else { 500 };
        let what = format!("{operation} on {place}");
        Self::of_answer(what, "kinesis", operation, status, code, message, None)
    }

    /// An answer that breaks the service's contract.
    pub fn broken(operation: &str, place: &str, message: impl Into<String>) -> Self {
        Self::plain(
            format!("{operation} on {place}"),
            message.into(),
            Reaction::Repeat,
        )
    }

    /// A request that must not be sent.
    pub fn unsendable(operation: &str, place: &str, message: impl Into<String>) -> Self {
        Self::plain(
            format!("{operation} on {place}"),
            message.into(),
            Reaction::GiveUp,
        )
    }

    /// Whether the service answered with this error code.
    pub fn is(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }

    fn plain(what: String, message: String, reaction: Reaction) -> Self {
        Self {
            what,
            code: None,
            message,
            reaction,
            request_id: None,
            advice: None,
        }
    }

    fn of_answer(
        what: String,
        service: &str,
        operation: &str,
        status: u16,
        code: Option<&str>,
        message: Option<&str>,
        request_id: Option<String>,
    ) -> Self {
        let message = match message {
            Some(message) if !message.is_empty() => message.to_owned(),
            _ => format!("status {status}"),
        };
        let advice = match code {
            Some(_) if is_of_the_clock(&message) => Some("the clock of this machine may be wrong".to_owned()),
            Some(code) => advice(code, service, operation),
            None => None,
        };
        Self {
            what,
            code: code.map(str::to_owned),
            reaction: reaction(code, status, &message),
            message,
            request_id,
            advice,
        }
    }

    fn of_credentials(what: String, error: &CredentialsError) -> Self {
        let reaction = match error {
            // Compat: a provider that has nothing, or is set up wrongly, is a refusal here and a failure like any
            // other in Java; both are said at once, and only ours says what to do.
            CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_) => {
                Reaction::GiveUp
            }
            _ => Reaction::Repeat,
        };
        let mut failure = Self::plain(what, format!("no credentials: {}", chain(Some(error))), reaction);
        failure.advice = Some("set them up, or name another provider in awsCredentialsProvider".to_owned());
        failure
    }
}

/// What a service's answer asks for.
fn reaction(code: Option<&str>, status: u16, message: &str) -> Reaction {
    match code.unwrap_or_default() {
        "ProvisionedThroughputExceededException"
        | "LimitExceededException"
        | "KMSThrottlingException"
        // Nothing was written: another transaction or a replica held the row.
        | "TransactionConflictException"
        | "ReplicatedWriteConflictException" => Reaction::SlowDown,
        "ThrottlingException"
        | "Throttling"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "RequestLimitExceeded"
        | "TooManyRequestsException"
        | "SlowDown"
        | "InternalServerError"
        | "InternalFailure"
        | "InternalFailureException"
        | "ServiceUnavailable"
        | "ServiceUnavailableException" => Reaction::Repeat,
        // Clocks are corrected and temporary credentials renewed by the SDK: the next try may carry better ones.
        "RequestTimeTooSkewed" | "RequestExpired" | "RequestTimeout" | "RequestTimeoutException" => Reaction::Repeat,
        // Our clock is wrong: the SDK has just learned by how much.
        "InvalidSignatureException" | "SignatureDoesNotMatch" if is_of_the_clock(message) => Reaction::Repeat,
        _ if status >= 500 || status == 429 || status == 408 => Reaction::Repeat,
        _ => Reaction::GiveUp,
    }
}

fn is_of_the_clock(message: &str) -> bool {
    message.contains("Signature expired") || message.contains("Signature not yet current")
}

/// Whether the code says that the service wants fewer requests, whatever the reaction.
pub fn is_throttling(code: &str) -> bool {
    matches!(
        code,
        "ProvisionedThroughputExceededException"
            | "LimitExceededException"
            | "KMSThrottlingException"
            | "ThrottlingException"
            | "Throttling"
            | "ThrottledException"
            | "RequestThrottled"
            | "RequestThrottledException"
            | "RequestLimitExceeded"
            | "TooManyRequestsException"
            | "SlowDown"
    )
}

fn advice(code: &str, service: &str, operation: &str) -> Option<String> {
    Some(match code {
        "AccessDeniedException" | "AccessDenied" | "NotAuthorized" => {
            format!("allow {service}:{operation} to these credentials")
        }
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException" => {
            "check the credentials, the region and the endpoint: they do not belong together".to_owned()
        }
        "ExpiredTokenException" | "ExpiredToken" => "the credentials have expired: renew them".to_owned(),
        "KMSAccessDeniedException" => "allow kms:Decrypt on the stream's key to these credentials".to_owned(),
        "KMSDisabledException" | "KMSInvalidStateException" | "KMSNotFoundException" | "KMSOptInRequired" => {
            "check the key that the stream is encrypted with".to_owned()
        }
        "UnknownOperationException" => {
            "this endpoint is not the service, or an emulator without this call".to_owned()
        }
        _ => return None,
    })
}

fn request_id(answer: &HttpResponse) -> Option<String> {
    let headers = answer.headers();
    headers
        .get("x-amzn-requestid")
        .or_else(|| headers.get("x-amz-request-id"))
        .map(str::to_owned)
}

fn credentials_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a CredentialsError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<CredentialsError>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// The messages of an error and its causes, each one that says something new once.
pub fn chain(error: Option<&(dyn Error + 'static)>) -> String {
    let mut text = String::new();
    let mut next = error;
    while let Some(error) = next {
        let part = error.to_string();
        if !text.contains(&part) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&part);
        }
        next = error.source();
    }
    text
}

/// What to do about an authority that nobody here knows, such as a company's own.
fn with_advice(mut message: String) -> String {
    // As rustls says it; between it and us are errors that hide its type.
    if message.contains("UnknownIssuer") {
        message.push_str(" (AWS_CA_BUNDLE may name a file of authorities to trust instead of the system's)");
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, code: &str, message: &str) -> Failure {
        Failure::of_answer(
            "GetRecords on Kinesis in eu-west-1".into(),
            "kinesis",
            "GetRecords",
            status,
            Some(code),
            Some(message),
            Some("r-1".into()),
        )
    }

    #[test]
    fn a_denied_call_says_which_action_to_allow() {
        let failure = answered(
            400,
            "AccessDeniedException",
            "User: arn:aws:iam::1:user/u is not authorized",
        );
        assert_eq!(failure.reaction, Reaction::GiveUp);
        assert_eq!(
            failure.to_string(),
            "GetRecords on Kinesis in eu-west-1: AccessDeniedException: User: arn:aws:iam::1:user/u is not authorized \
             (request r-1); allow kinesis:GetRecords to these credentials"
        );
    }

    #[test]
    fn provisioned_throttling_means_that_nothing_happened() {
        assert_eq!(
            answered(400, "ProvisionedThroughputExceededException", "").reaction,
            Reaction::SlowDown
        );
    }

    #[test]
    fn on_demand_throttling_and_server_errors_leave_it_open_what_happened() {
        for (status, code) in [
            (400, "ThrottlingException"),
            (500, "InternalServerError"),
            (503, "Whatever"),
        ] {
            assert_eq!(answered(status, code, "").reaction, Reaction::Repeat, "{code}");
        }
    }

    #[test]
    fn a_wrong_clock_is_repeated_and_a_wrong_key_is_not() {
        let code = "InvalidSignatureException";
        let clock = "Signature expired: 20260701T000000Z is now earlier than 20260701T002500Z";
        assert_eq!(answered(400, code, clock).reaction, Reaction::Repeat);
        let key = "The request signature we calculated does not match the signature you provided.";
        assert_eq!(answered(400, code, key).reaction, Reaction::GiveUp);
    }

    #[test]
    fn an_unknown_refusal_is_not_repeated() {
        assert_eq!(answered(400, "SomethingNew", "").reaction, Reaction::GiveUp);
    }
}
