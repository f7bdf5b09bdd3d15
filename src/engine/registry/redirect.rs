//! Answers that say where else to ask: registries keep what they have in stores of others.

use hyper::header::{AUTHORIZATION, LOCATION};
use hyper::{Method, StatusCode};

use super::http::{Answer, Ask, Site};
use super::{MOST_BYTES, Registry, RegistryError};

/// How many redirects are followed, as by Go's client, which docker uses.
const MOST_REDIRECTS: usize = 10;

impl Registry {
    /// Follows where an answer leads, for questions that change nothing. Another host is not shown the
    /// registry's token, and none is followed from TLS to a place without it.
    pub(super) async fn follow(
        &self,
        mut ask: Ask,
        mut site: Site,
        mut answer: Answer,
    ) -> Result<Answer, RegistryError> {
        let mut redirects = 0;
        while let Some(url) = target(&ask, &site, &answer) {
            let refused = |message: String| RegistryError::Refused {
                registry: self.name.clone(),
                status: answer.status.as_u16(),
                message,
            };
            redirects += 1;
            if redirects > MOST_REDIRECTS {
                let message = format!("it redirects more than {MOST_REDIRECTS} times");
                return Err(refused(message));
            }
            let (next, path) = Site::of_url(&url, &self.trusted)
                .map_err(|reason| refused(format!("it redirects to `{url}`: {reason}")))?;
            if next.origin() == site.origin() {
                ask = ask.at(path);
            } else if site.has_tls() && !next.has_tls() && !next.keeps_secrets() {
                let message = format!("it redirects to {}, without TLS", next.origin());
                return Err(refused(message));
            } else {
                ask = ask.at(path).without(&AUTHORIZATION);
                site = next;
            }
            answer = site.send(ask.clone(), MOST_BYTES).await.map_err(|reason| {
                let registry = site.origin().to_owned();
                RegistryError::Unreachable { registry, reason }
            })?;
        }
        Ok(answer)
    }
}

/// The URL that an answer leads to.
fn target(ask: &Ask, site: &Site, answer: &Answer) -> Option<String> {
    let is_redirect = matches!(
        answer.status,
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    let is_question = [Method::GET, Method::HEAD].contains(ask.method());
    let place = answer
        .header(&LOCATION)
        .filter(|_| is_redirect && is_question)?;
    Some(match place.strip_prefix('/') {
        Some(rest) if !rest.starts_with('/') => format!("{}{place}", site.origin()),
        _ => place.to_owned(),
    })
}
