//! Headers that go with every request of a kind, whatever it asks: encryption, who owns the bucket, who pays.

use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::Metadata;

/// The operations that make an object, and so say how it is encrypted.
const MAKING: [&str; 3] = ["PutObject", "CreateMultipartUpload", "CopyObject"];

/// How the store encrypts what is written; without it, as the bucket says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encryption {
    /// SSE-S3: with keys of the store.
    Aes256,
    /// SSE-KMS: with this key, or the account's for S3.
    Kms {
        /// The key's id or ARN.
        key: Option<String>,
        /// In two layers (DSSE-KMS).
        twice: bool,
    },
}

/// What goes with requests beyond what they ask.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extra {
    /// Encryption of what is written.
    pub encryption: Option<Encryption>,
    /// The account that the bucket must belong to: requests to another's are refused by the store.
    pub bucket_owner: Option<String>,
    /// Requests and downloads are charged to who asks.
    pub requester_pays: bool,
}

impl Encryption {
    fn headers(&self) -> Vec<(&'static str, String)> {
        const HOW: &str = "x-amz-server-side-encryption";
        match self {
            Encryption::Aes256 => vec![(HOW, "AES256".to_owned())],
            Encryption::Kms { key, twice } => {
                let how = if *twice { "aws:kms:dsse" } else { "aws:kms" };
                let key = key.iter().map(|key| ("x-amz-server-side-encryption-aws-kms-key-id", key.clone()));
                std::iter::once((HOW, how.to_owned())).chain(key).collect()
            }
        }
    }
}

impl Extra {
    /// Whether nothing is added.
    pub fn is_none(&self) -> bool {
        *self == Extra::default()
    }

    /// The headers of a request of this operation.
    fn headers(&self, operation: &str) -> Vec<(&'static str, String)> {
        let mut headers = Vec::new();
        if let Some(encryption) = self.encryption.as_ref().filter(|_| MAKING.contains(&operation)) {
            headers.extend(encryption.headers());
        }
        if let Some(owner) = &self.bucket_owner {
            headers.push(("x-amz-expected-bucket-owner", owner.clone()));
            if matches!(operation, "CopyObject" | "UploadPartCopy") {
                headers.push(("x-amz-source-expected-bucket-owner", owner.clone()));
            }
        }
        if self.requester_pays {
            headers.push(("x-amz-request-payer", "requester".to_owned()));
        }
        headers
    }
}

/// Adds them before a request is signed.
#[derive(Debug)]
pub(super) struct AddHeaders(pub Extra);

impl Intercept for AddHeaders {
    fn name(&self) -> &'static str {
        "AddHeaders"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let operation = config.load::<Metadata>().map_or("", Metadata::name).to_owned();
        let request = context.request_mut().headers_mut();
        for (name, value) in self.0.headers(&operation) {
            request.try_insert(name, value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_has_what_belongs_to_it() {
        let kms = Encryption::Kms { key: Some("arn:k".into()), twice: false };
        let extra = Extra { encryption: Some(kms), bucket_owner: Some("1".into()), requester_pays: true };
        let names =
            |operation| -> Vec<&str> { extra.headers(operation).iter().map(|(name, _)| *name).collect() };
        let all = ["x-amz-expected-bucket-owner", "x-amz-request-payer"];
        assert_eq!(names("GetObject"), all);
        assert_eq!(names("UploadPart"), all);
        for making in MAKING {
            let headers = extra.headers(making);
            assert_eq!(headers[0], ("x-amz-server-side-encryption", "aws:kms".to_owned()), "{making}");
            assert_eq!(headers[1].1, "arn:k", "{making}");
        }
        assert!(names("UploadPartCopy").contains(&"x-amz-source-expected-bucket-owner"));
        assert!(Extra::default().is_none() && Extra::default().headers("PutObject").is_empty());
    }
}
