//! Layers, sent to a registry in chunks (OCI distribution specification 1.1, "Pushing a blob in chunks"):
//! what it has accepted is not sent again when the link breaks.

use std::time::Duration;

use hyper::body::Bytes;
use hyper::header::{
    CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RANGE,
};
use hyper::{Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::http::{Answer, Ask, path_and_query};
use super::{Registry, RegistryError, Right, path};
use crate::model::ImageRef;

/// The least bytes of a chunk, which a registry may say.
const LEAST: HeaderName = HeaderName::from_static("oci-chunk-min-length");
/// How long a link may be stuck.
const SILENCE: Duration = Duration::from_secs(60);
/// How often in a row a registry may take less than it is sent.
const MOST_SHORT: u32 = 10;
/// How long a registry may take to put a layer together: it reads all of it once more.
const COMMIT: Duration = Duration::from_secs(600);

/// A layer on its way to a registry.
#[derive(Debug)]
pub(crate) struct Upload {
    /// Where the next request goes.
    place: String,
    /// How many bytes of it the registry has.
    accepted: u64,
    /// How many bytes a chunk has at least, except for the last one.
    least_chunk: u64,
    /// How often in a row it took less than it was sent.
    short: u32,
}

impl Upload {
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted
    }

    pub(crate) fn least_chunk(&self) -> u64 {
        self.least_chunk
    }

    /// Takes over where an answer says that it goes on.
    fn follow(&mut self, answer: &Answer) {
        if let Some(place) = answer.header(&LOCATION) {
            self.place = path_and_query(place);
        }
    }
}

impl Registry {
    /// The size of a layer, or of whatever else has this digest, in bytes; nothing where there is none.
    ///
    /// # Errors
    ///
    /// The registry can't be reached, or does not answer the question.
    pub(crate) async fn blob(
        &self,
        image: &ImageRef,
        digest: &str,
    ) -> Result<Option<u64>, RegistryError> {
        let repository = path(image);
        let ask = Ask::new(Method::HEAD, format!("/v2/{repository}/blobs/{digest}"));
        let answer = self.ask(ask, &pushing(image), image).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let answer = self.accepted(answer, image, Right::Pull)?;
        let size = answer.header(&CONTENT_LENGTH);
        Ok(size.and_then(|size| size.parse().ok()))
    }

    /// Has a layer of another of its repositories be one of the image's as well. Whether it is.
    ///
    /// # Errors
    ///
    /// The registry can't be reached, or does not answer the question.
    pub(crate) async fn mount(
        &self,
        image: &ImageRef,
        digest: &str,
        from: &ImageRef,
    ) -> Result<bool, RegistryError> {
        let (repository, other) = (path(image), path(from));
        let digest = utf8_percent_encode(digest, NON_ALPHANUMERIC);
        let place = format!("/v2/{repository}/blobs/uploads/?mount={digest}&from={other}");
        let scope = format!("{} repository:{other}:pull", pushing(image));
        let answer = self
            .ask(Ask::new(Method::POST, place), &scope, image)
            .await?;
        let answer = self.accepted(answer, image, Right::Push)?;
        if answer.status == StatusCode::CREATED {
            return Ok(true);
        }
        self.abandon(image, &begun(&answer)).await;
        Ok(false)
    }

    /// Begins to send a layer.
    ///
    /// # Errors
    ///
    /// The registry does not take any; why.
    pub(crate) async fn begin(&self, image: &ImageRef) -> Result<Upload, RegistryError> {
        let repository = path(image);
        let ask = Ask::new(Method::POST, format!("/v2/{repository}/blobs/uploads/"));
        let answer = self.ask(ask, &pushing(image), image).await?;
        Ok(begun(&self.accepted(answer, image, Right::Push)?))
    }

    /// Gives an upload up. One that is not given up is swept by the registry.
    pub(crate) async fn abandon(&self, image: &ImageRef, upload: &Upload) {
        let ask = Ask::new(Method::DELETE, upload.place.clone());
        let _ = self.ask(ask, &pushing(image), image).await;
    }

    /// Sends what comes next. The registry may accept less than that.
    ///
    /// # Errors
    ///
    /// It is not known what the registry has accepted ([`Registry::look_up`] asks); or the upload is no
    /// more, or the registry takes next to nothing of it, time and again ([`RegistryError::Refused`]).
    pub(crate) async fn append(
        &self,
        image: &ImageRef,
        upload: &mut Upload,
        chunk: Bytes,
    ) -> Result<(), RegistryError> {
        let end = upload.accepted + chunk.len() as u64;
        let range = format!("{}-{}", upload.accepted, end - 1);
        let range = HeaderValue::from_str(&range).expect("digits are fit for headers");
        let octets = HeaderValue::from_static("application/octet-stream");
        let ask = Ask::new(Method::PATCH, upload.place.clone())
            .header(CONTENT_TYPE, octets)
            .header(CONTENT_RANGE, range)
            .body(chunk)
            .patience(SILENCE);
        let answer = self.ask(ask, &pushing(image), image).await?;
        let answer = self.accepted(answer, image, Right::Push)?;
        upload.follow(&answer);
        let accepted = answer.header(&RANGE).and_then(length).unwrap_or(end);
        upload.accepted = accepted.clamp(upload.accepted, end);
        upload.short = if upload.accepted == end {
            0
        } else {
            upload.short + 1
        };
        if upload.short > MOST_SHORT {
            return Err(RegistryError::Refused {
                registry: self.name.clone(),
                status: answer.status.as_u16(),
                message: format!(
                    "it says {} times in a row that it has less of a layer than it was sent",
                    upload.short
                ),
            });
        }
        Ok(())
    }

    /// Asks how much of a layer the registry has.
    ///
    /// # Errors
    ///
    /// The registry can't be reached; or the upload is no more ([`RegistryError::Refused`]).
    pub(crate) async fn look_up(
        &self,
        image: &ImageRef,
        upload: &mut Upload,
    ) -> Result<(), RegistryError> {
        let ask = Ask::new(Method::GET, upload.place.clone());
        let answer = self.ask(ask, &pushing(image), image).await?;
        let answer = self.accepted(answer, image, Right::Push)?;
        upload.follow(&answer);
        if let Some(accepted) = answer.header(&RANGE).and_then(length) {
            upload.accepted = accepted;
        }
        Ok(())
    }

    /// Ends an upload: from now on the registry has the layer.
    ///
    /// # Errors
    ///
    /// What was sent does not have the digest, or the upload is no more ([`RegistryError::Refused`]).
    pub(crate) async fn finish(
        &self,
        image: &ImageRef,
        upload: &Upload,
        digest: &str,
    ) -> Result<(), RegistryError> {
        let mark = if upload.place.contains('?') { '&' } else { '?' };
        let digest = utf8_percent_encode(digest, NON_ALPHANUMERIC);
        let place = format!("{}{mark}digest={digest}", upload.place);
        let ask = Ask::new(Method::PUT, place).patience(COMMIT);
        let answer = self.ask(ask, &pushing(image), image).await?;
        self.accepted(answer, image, Right::Push)?;
        Ok(())
    }
}

/// What one must be let do to push.
pub(super) fn pushing(image: &ImageRef) -> String {
    format!("repository:{}:pull,push", path(image))
}

fn begun(answer: &Answer) -> Upload {
    let least = answer.header(&LEAST).and_then(|text| text.parse().ok());
    let mut upload = Upload {
        place: String::new(),
        accepted: 0,
        least_chunk: least.unwrap_or(0),
        short: 0,
    };
    upload.follow(answer);
    upload
}

/// How many bytes a range such as `0-99` has. That of nothing is written as that of a single byte.
fn length(range: &str) -> Option<u64> {
    let range = range.trim_start_matches("bytes=");
    let (first, last) = range.split_once('-')?;
    match (first.parse().ok()?, last.parse().ok()?) {
        (0, 0) => Some(0),
        (0, last) => u64::checked_add(last, 1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_says_how_much_was_accepted() {
        for (range, expected) in [
            ("0-0", Some(0)),
            ("0-1048575", Some(1 << 20)),
            ("bytes=0-9", Some(10)),
            ("5-9", None),
            ("0-18446744073709551615", None),
            ("", None),
            ("-", None),
        ] {
            assert_eq!(length(range), expected, "{range}");
        }
    }
}
