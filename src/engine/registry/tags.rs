//! The tags of a repository (OCI distribution specification 1.1, "Content Discovery").

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use hyper::header::{HeaderMap, LINK};
use hyper::{Method, StatusCode};
use serde::Deserialize;
use tokio::time::Instant;

use super::http::{Ask, path_and_query};
use super::{Registry, RegistryError, Right, path};
use crate::model::ImageRef;

/// How many tags are asked for at once.
const PAGE: usize = 1000;
/// How many bytes a tag has, at most (OCI distribution specification 1.1), and how many tags are read.
const LONGEST: usize = 128;
const MOST_TAGS: usize = 1_000_000;
/// How many pages a list has at most, and how long all of them may take.
const MOST_PAGES: usize = 1000;
const PATIENCE: Duration = Duration::from_secs(60);

impl Registry {
    /// The tags of the image's repository; nothing where there is no such list.
    ///
    /// # Errors
    ///
    /// The registry can't be reached, does not list them, or its list does not end.
    pub(crate) async fn tags(
        &self,
        image: &ImageRef,
    ) -> Result<Option<BTreeSet<String>>, RegistryError> {
        #[derive(Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        let repository = path(image);
        let refused = |status: StatusCode, message: &str| RegistryError::Refused {
            registry: self.name.clone(),
            status: status.as_u16(),
            message: format!("its list of the tags of {repository} {message}"),
        };
        let mut tags = BTreeSet::new();
        let mut asked = HashSet::new();
        let mut next = Some(format!("/v2/{repository}/tags/list?n={PAGE}"));
        let start = Instant::now();
        while let Some(place) = next {
            let answer = self
                .read(Ask::new(Method::GET, place.clone()), image)
                .await?;
            if answer.status == StatusCode::NOT_FOUND {
                return Ok(None);
            }
            let answer = self.accepted(answer, image, Right::Pull)?;
            let page: Page = serde_json::from_slice(&answer.body)
                .map_err(|_| refused(answer.status, "can't be read"))?;
            let found = page.tags.into_iter().flatten();
            tags.extend(found.filter(|tag| tag.len() <= LONGEST));
            asked.insert(place);
            next = following(&answer.headers);
            let is_endless =
                asked.len() >= MOST_PAGES || tags.len() > MOST_TAGS || start.elapsed() > PATIENCE;
            if next
                .as_ref()
                .is_some_and(|next| is_endless || asked.contains(next))
            {
                return Err(refused(answer.status, "does not end"));
            }
        }
        Ok(Some(tags))
    }
}

/// Where the next page is (RFC 8288, `rel="next"`).
fn following(headers: &HeaderMap) -> Option<String> {
    let links = headers.get_all(LINK).into_iter();
    let links = links.filter_map(|link| link.to_str().ok());
    let mut links = links.flat_map(|links| links.split(','));
    links.find_map(|link| {
        let (url, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let mut parameters = parameters.split(';').map(|one| one.trim().replace('"', ""));
        parameters
            .any(|parameter| parameter.eq_ignore_ascii_case("rel=next"))
            .then(|| path_and_query(url))
    })
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderMap, HeaderValue, LINK};

    use super::following;

    #[test]
    fn the_next_page_is_found() {
        for (link, expected) in [
            (
                r#"</v2/a/tags/list?n=2&last=b>; rel="next""#,
                Some("/v2/a/tags/list?n=2&last=b"),
            ),
            (
                "<http://r.example/v2/a/tags/list?last=b>;rel=next",
                Some("/v2/a/tags/list?last=b"),
            ),
            (
                r#"</first>; rel="first", </next>; title=x; rel="next""#,
                Some("/next"),
            ),
            (r#"</first>; rel="first""#, None),
            ("nonsense", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(LINK, HeaderValue::from_str(link).unwrap());
            assert_eq!(following(&headers).as_deref(), expected, "{link}");
        }
        assert_eq!(following(&HeaderMap::new()), None);
    }
}
