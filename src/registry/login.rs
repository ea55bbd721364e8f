//! Finds out whether a registry takes a login.

use super::answer::Asked;
use super::auth::Authenticator;
use super::credentials::Credential;
use super::error::Error;
use super::{Access, Client, Settings, Target};
use crate::http::{Method, Request};
use crate::oci::Reference;

/// What a registry says to a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginAnswer {
    /// It takes it.
    Welcome,
    /// It asks nobody for a login, so that nothing was found out.
    NotAsked,
}

impl Client {
    /// Whether there is a login with which images are pushed there. Nothing is asked.
    pub fn has_login(&self, repository: &Reference) -> bool {
        let Ok(place) = self.place_to_push(repository) else { return false };
        self.inner.auth.knows(&Target::push(repository, &place))
    }
}

/// Asks `registry` (`host[:port]`) whether it takes the login. Nothing is stored, and stored logins do not count.
///
/// # Errors
/// [`Error::Unauthorized`] when it does not; whatever else keeps it from answering.
pub fn check_login(
    settings: Settings,
    registry: &Reference,
    user: &str,
    password: &str,
) -> Result<LoginAnswer, Error> {
    let (user, password) = (user.to_owned(), password.to_owned());
    let auth =
        Authenticator::with_login(settings.http.environment.clone(), Credential::Basic { user, password });
    let client = Client::with_authenticator(settings, auth);
    let place = client.place_to_push(registry)?;
    let target = Target { reference: registry, place: &place, access: Access::Login };
    let response = client.call(&target, None, &Request::new(Method::GET, "/v2/".to_owned()))?;
    match response.status.as_u16() {
        200 if client.inner.auth.header(&target, None).is_some() => Ok(LoginAnswer::Welcome),
        200 => Ok(LoginAnswer::NotAsked),
        _ => Err(client.refusal(&target, Asked::Manifest, response)),
    }
}
