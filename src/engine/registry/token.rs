//! Tokens, from where a registry says (distribution's token authentication specification).
//!
//! A registry names any server it likes, and whoever is between here and a registry without TLS does. So the
//! password is given only to a server whose own certificate is verified, or that is trusted for what it is
//! itself: one on this machine, or one that the engine's configuration names as insecure.

use hyper::Method;
use serde::Deserialize;

use super::challenge::{Challenge, token_request};
use super::http::{Ask, Site};
use super::{MOST_BYTES, Registry, RegistryError, Right};
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
        let credentials = self.credentials.as_ref();
        if credentials.is_some() && !site.keeps_secrets() {
            return Err(self.not_encrypted(&site));
        }
        let ask = token_request(&path, service, scope, credentials);
        let sent = site.send(ask, MOST_BYTES).await;
        let answer = sent.map_err(|reason| {
            // The engine, which is asked next, verifies the server no better than the registry.
            if credentials.is_some() && self.is_insecure() {
                self.not_asked(&site, &reason)
            } else {
                unreachable(reason)
            }
        })?;
        let right = if scope.contains(":pull,push") {
            Right::Push
        } else {
            Right::Pull
        };
        let answer = self.accepted(answer, image, right)?;
        let body: Body = serde_json::from_slice(&answer.body)
            .map_err(|_| unreachable("its answer has no token".to_owned()))?;
        let token = body
            .token
            .or(body.access_token)
            .ok_or_else(|| unreachable("its answer has no token".to_owned()))?;
        Ok(Secret::new(format!("Bearer {}", token.expose())))
    }

    /// Whether the server that an insecure registry has tokens from may be given a password. Who gives it to an
    /// engine asks before, as an engine verifies such a server no better than the registry. A registry that can't
    /// be asked from here is left to the engine.
    ///
    /// # Errors
    ///
    /// It may not; why.
    pub(crate) async fn check_tokens(&self) -> Result<(), RegistryError> {
        if !self.is_insecure() {
            return Ok(());
        }
        let asking = self.send(Ask::new(Method::GET, "/v2/".to_owned()), None);
        let Ok(answer) = asking.await else {
            return Ok(());
        };
        let Some(Challenge::Bearer { realm, .. }) = Challenge::of(&answer) else {
            return Ok(());
        };
        let Ok((site, path)) = Site::of_url(&realm, &self.trusted) else {
            return Ok(());
        };
        if !site.keeps_secrets() {
            return Err(self.not_encrypted(&site));
        }
        let asking = site.send(Ask::new(Method::GET, path), MOST_BYTES).await;
        asking
            .map(drop)
            .map_err(|reason| self.not_asked(&site, &reason))
    }

    fn not_encrypted(&self, server: &Site) -> RegistryError {
        self.untrusted(server, "that is not encrypted".to_owned())
    }

    fn not_asked(&self, server: &Site, reason: &str) -> RegistryError {
        self.untrusted(server, format!("that can't be asked: {reason}"))
    }

    fn untrusted(&self, server: &Site, reason: String) -> RegistryError {
        RegistryError::UntrustedServer {
            registry: self.name.clone(),
            server: server.origin().to_owned(),
            reason,
        }
    }

    /// Whether the engine does not verify who answers as this registry.
    fn is_insecure(&self) -> bool {
        self.trusted.of(&self.name).is_insecure
    }
}
