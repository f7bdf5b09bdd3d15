//! Tokens, from where a registry says (distribution's token authentication specification).
//!
//! A registry names any server it likes, and whoever is between here and a registry without TLS does. So the
//! password is given only to a server whose own certificate is verified, or that is trusted for what it is
//! itself: one on this machine, or one that the engine's configuration names as insecure.

use serde::Deserialize;

use super::challenge::token_request;
use super::http::Site;
use super::{MOST_BYTES, Registry, RegistryError};
use crate::model::{ImageRef, Secret};

impl Registry {
    /// A token for a scope.
    pub(super) async fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: &str,
        image: &ImageRef,
    ) -> Result<Secret, RegistryError> {
        #[derive(Deserialize)]
        struct Body {
            token: Option<Secret>,
            access_token: Option<Secret>,
        }
        let unreachable = |reason: String| RegistryError::Unreachable {
            registry: realm.to_owned(),
            reason,
        };
        let (site, path) = Site::of_url(realm, &self.trusted).map_err(unreachable)?;
        let untrusted = |reason: String| RegistryError::UntrustedServer {
            registry: self.name.clone(),
            server: site.origin().to_owned(),
            reason,
        };
        let credentials = self.credentials.as_ref();
        if credentials.is_some() && !site.keeps_secrets() {
            return Err(untrusted("that is not encrypted".to_owned()));
        }
        let ask = token_request(&path, service, scope, credentials);
        let sent = site.send(ask, MOST_BYTES).await;
        let answer = sent.map_err(|reason| {
            // The engine, which is asked next, verifies the server no better than the registry.
            if credentials.is_some() && self.is_insecure() {
                untrusted(format!("that can't be asked: {reason}"))
            } else {
                unreachable(reason)
            }
        })?;
        let answer = self.accepted(answer, image)?;
        let body: Body = serde_json::from_slice(&answer.body)
            .map_err(|_| unreachable("its answer has no token".to_owned()))?;
        let token = body
            .token
            .or(body.access_token)
            .ok_or_else(|| unreachable("its answer has no token".to_owned()))?;
        Ok(Secret::new(format!("Bearer {}", token.expose())))
    }

    /// Whether the engine does not verify who answers as this registry.
    fn is_insecure(&self) -> bool {
        self.trusted.of(&self.name).is_insecure
    }
}
