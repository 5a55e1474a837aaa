//! The body of a good answer as it came: the SDK signs, sends, times and judges the call, and leaves the reading to us.
//!
//! For GetRecords alone, whose answers are nearly all that a worker reads. Errors are read by the SDK.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_kinesis::operation::get_records::{GetRecords, GetRecordsOutput};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeSerializationInterceptorContextMut, Error, Output,
};
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::{HttpResponse, OrchestratorError};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::client::runtime_plugin::RuntimePlugin;
use aws_smithy_runtime_api::client::ser_de::{DeserializeResponse, SharedResponseDeserializer};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use aws_smithy_types::config_bag::{ConfigBag, FrozenLayer};
use multilangd_core::records::answer::Reading;

/// Where the body of one call's answer is put: an interceptor for that call. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Unread(Arc<Mutex<Option<SdkBody>>>);

impl Unread {
    /// Receives the body, once the call has succeeded. `None`: the call has not kept it.
    pub(super) async fn receive(&self) -> Result<Option<Reading>, BoxError> {
        let Some(body) = self.lock().take() else {
            return Ok(None);
        };
        let length = body
            .content_length()
            .and_then(|length| usize::try_from(length).ok());
        let mut stream = ByteStream::new(body);
        // What the headers promise is believed only so far: what really comes is what takes memory.
        let mut reading = Reading::with_capacity(length.unwrap_or_default().min(LENGTH_BELIEVED_MAX));
        while let Some(part) = stream.next().await {
            reading.push(&part?)?;
        }
        Ok(Some(reading))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<SdkBody>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Just above the longest answers: 10 MB of payload as base64, and what is around it.
const LENGTH_BELIEVED_MAX: usize = 24 * 1024 * 1024;

#[dyn_dispatch_hint]
impl Intercept for Unread {
    fn name(&self) -> &'static str {
        "Unread"
    }

    fn modify_before_serialization(
        &self,
        _: &mut BeforeSerializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let keep = KeepBody {
            kept: self.clone(),
            sdk: GetRecords::new()
                .config()
                .ok_or("GetRecords has no deserializer")?,
        };
        config
            .interceptor_state()
            .store_put(SharedResponseDeserializer::new(keep));
        Ok(())
    }
}

/// Takes the body out of a good answer, and lets the SDK read the others.
#[derive(Debug)]
struct KeepBody {
    kept: Unread,
    sdk: FrozenLayer,
}

impl DeserializeResponse for KeepBody {
    fn deserialize_streaming(
        &self,
        response: &mut HttpResponse,
    ) -> Option<Result<Output, OrchestratorError<Error>>> {
        if !response.status().is_success() {
            return None;
        }
        let body = std::mem::replace(response.body_mut(), SdkBody::taken());
        *self.kept.lock() = Some(body);
        let nothing = GetRecordsOutput::builder().set_records(Some(Vec::new())).build();
        Some(match nothing {
            Ok(nothing) => Ok(Output::erase(nothing)),
            Err(error) => Err(OrchestratorError::other(error)),
        })
    }

    fn deserialize_nonstreaming_with_config(
        &self,
        response: &HttpResponse,
        config: &ConfigBag,
    ) -> Result<Output, OrchestratorError<Error>> {
        match self.sdk.load::<SharedResponseDeserializer>() {
            Some(sdk) => sdk.deserialize_nonstreaming_with_config(response, config),
            None => Err(OrchestratorError::other("GetRecords has no deserializer")),
        }
    }
}
