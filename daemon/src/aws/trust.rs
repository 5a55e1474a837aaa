//! Who may vouch for a service: the authorities of the system, or those of `AWS_CA_BUNDLE` in their place.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_smithy_http_client::tls::{TlsContext, TrustStore};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// The variable of the AWS CLI and of most AWS SDKs.
const VARIABLE: &str = "AWS_CA_BUNDLE";

/// The file cannot vouch for anybody.
#[derive(Debug, thiserror::Error)]
#[error("{VARIABLE} = {}: {why}", file.display())]
pub struct BadBundle {
    file: PathBuf,
    why: String,
}

/// The trusted authorities. Cheap to clone; the default is the system's.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// PEM, read and found good.
    bundle: Option<Arc<[u8]>>,
}

impl Trust {
    /// As the environment says.
    pub fn from_env() -> Result<Self, BadBundle> {
        match std::env::var_os(VARIABLE).filter(|file| !file.is_empty()) {
            Some(file) => Self::in_file(Path::new(&file)),
            None => Ok(Self::default()),
        }
    }

    /// Only the certificates of this PEM file.
    pub fn in_file(file: &Path) -> Result<Self, BadBundle> {
        let bad = |why: String| BadBundle {
            file: file.to_owned(),
            why,
        };
        let bundle = std::fs::read(file).map_err(|error| bad(error.to_string()))?;
        let roots = roots(&bundle).map_err(bad)?;
        if roots.is_empty() {
            return Err(bad("no certificate in it".to_owned()));
        }
        Ok(Self {
            bundle: Some(bundle.into()),
        })
    }

    /// For the SDK's own connections.
    pub(super) fn context(&self) -> TlsContext {
        let store = match &self.bundle {
            Some(bundle) => TrustStore::empty().with_pem_certificate(bundle.to_vec()),
            None => TrustStore::default(),
        };
        TlsContext::builder()
            .with_trust_store(store)
            .build()
            .expect("a trust store alone is no conflict")
    }

    /// For connections of our own. Reads the system's files every time.
    pub(super) fn roots(&self) -> RootCertStore {
        match &self.bundle {
            Some(bundle) => roots(bundle).expect("it was good when it was read"),
            None => {
                let mut store = RootCertStore::empty();
                store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                store
            }
        }
    }
}

fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| format!("not PEM: {error}"))?;
        store.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(store)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: Option<&str>) -> String {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        if let Some(text) = text {
            std::fs::write(&file, text).unwrap();
        }
        let refused = Trust::in_file(&file).unwrap_err().to_string();
        refused.replace(&dir.path().display().to_string(), "DIR")
    }

    #[test]
    fn a_bundle_that_vouches_for_nobody_is_refused_with_its_path() {
        assert_eq!(
            refusal(None),
            "AWS_CA_BUNDLE = DIR/ca.pem: No such file or directory (os error 2)"
        );
        assert_eq!(
            refusal(Some("hello\n")),
            "AWS_CA_BUNDLE = DIR/ca.pem: no certificate in it"
        );
        let garbage = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
        assert!(refusal(Some(garbage)).starts_with("AWS_CA_BUNDLE = DIR/ca.pem: "));
        assert!(refusal(Some("-----BEGIN CERTIFICATE-----\naGVs")).contains("not PEM"));
    }
}
