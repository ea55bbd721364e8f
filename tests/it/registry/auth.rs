use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use rbuild::http::Environment;
use rbuild::registry::{CredentialState, Error, Progress};

use super::{amd64, client, client_in, reference, small_image, store};
use crate::support::http::{Received, Reply, Server, forward};
use crate::support::registry::{PASSWORD, Registry, USER, basic};

/// An environment with a docker configuration in `dir` that has one login.
fn login(dir: &Path, host: &str, user: &str, password: &str) -> Environment {
    let auth = basic(user, password).replace("Basic ", "");
    let text = format!(r#"{{"auths":{{"{host}":{{"auth":"{auth}"}}}}}}"#);
    std::fs::write(dir.join("config.json"), text).unwrap();
    Environment::empty().with("DOCKER_CONFIG", dir)
}

#[test]
fn logs_in_with_name_and_password() {
    let registry = Registry::start_with_login();
    registry.push(&small_image(), "private", "1");
    let (dir, store) = store();
    let client = client_in(login(dir.path(), &registry.host(), USER, PASSWORD));
    let reference = reference(&registry.host(), "private:1");
    let resolved = client.resolve(&store, &reference, &amd64()).unwrap();
    client.pull_layers(&store, &reference, &resolved.layers, &Progress::silent()).unwrap();
}

#[test]
fn says_how_to_log_in() {
    let registry = Registry::start_with_login();
    let host = registry.host();
    let (dir, store) = store();
    let error = client().resolve(&store, &reference(&host, "private:1"), &amd64()).unwrap_err();
    assert!(matches!(error, Error::Unauthorized { credentials: CredentialState::None, .. }), "{error}");
    assert!(error.help().unwrap().contains(&format!("rbuild login {host}")));

    let client = client_in(login(dir.path(), &host, USER, "hunter2"));
    let error = client.resolve(&store, &reference(&host, "private:1"), &amd64()).unwrap_err();
    assert!(matches!(error, Error::Unauthorized { credentials: CredentialState::Refused, .. }), "{error}");
    let told = format!("{error} {error:?} {}", error.help().unwrap());
    assert!(!told.contains("hunter2") && !told.contains(&basic(USER, "hunter2")[6..]), "{told}");
}

/// A registry that wants a token of `realm`, in front of `upstream`; tokens are `token-<n>`.
fn token_registry(
    upstream: String,
    realm: String,
    accepts: impl Fn(&str) -> bool + Send + Sync + 'static,
) -> Server {
    Server::start(move |request| {
        let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        if token.is_some_and(&accepts) {
            return forward(&upstream, request);
        }
        let scope = "repository:private:pull";
        let challenge = format!(r#"Bearer realm="{realm}/token",service="the service",scope="{scope}""#);
        Reply::new(401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#)
            .header("www-authenticate", challenge)
    })
}

#[test]
fn fetches_one_token_for_many_requests() {
    let registry = Registry::start();
    registry.push(&small_image(), "private", "1");
    let tokens = Server::start(|_| Reply::new(200, r#"{"token":"abc","expires_in":300}"#));
    let front = token_registry(registry.host(), format!("http://{}", tokens.host()), |token| token == "abc");
    let (dir, store) = store();
    let client = client_in(login(dir.path(), &front.host(), USER, PASSWORD));
    let reference = reference(&front.host(), "private:1");
    let resolved = client.resolve(&store, &reference, &amd64()).unwrap();
    client.pull_layers(&store, &reference, &resolved.layers, &Progress::silent()).unwrap();
    assert_eq!(
        tokens.requests(),
        ["GET /token?service=the%20service&scope=repository%3Aprivate%3Apull"],
        "one token serves them all"
    );
    let asked = &tokens.received()[0];
    assert_eq!(asked.header("authorization"), Some(basic(USER, PASSWORD).as_str()));
    let refused = |r: &&Received| r.header("authorization").is_none();
    assert_eq!(front.received().iter().filter(refused).count(), 1, "only the first went without");
}

#[test]
fn goes_anonymously_where_that_is_enough() {
    let registry = Registry::start();
    registry.push(&small_image(), "private", "1");
    let tokens = Server::start(|request| match request.header("authorization") {
        None => Reply::new(200, r#"{"access_token":"anonymous"}"#),
        Some(_) => Reply::new(500, ""),
    });
    let front = token_registry(registry.host(), format!("http://{}", tokens.host()), |t| t == "anonymous");
    let (_dir, store) = store();
    client().resolve(&store, &reference(&front.host(), "private:1"), &amd64()).unwrap();
}

#[test]
fn renews_a_token_that_is_no_longer_accepted() {
    let registry = Registry::start();
    registry.push(&small_image(), "private", "1");
    let issued = AtomicUsize::new(0);
    let tokens = Server::start(move |_| {
        let n = issued.fetch_add(1, Ordering::SeqCst);
        Reply::new(200, format!(r#"{{"token":"token-{n}","expires_in":300}}"#))
    });
    let uses = AtomicUsize::new(0);
    let front = token_registry(registry.host(), format!("http://{}", tokens.host()), move |token| {
        // Each token is good for two requests.
        let expected = uses.load(Ordering::SeqCst) / 2;
        token == format!("token-{expected}") && uses.fetch_add(1, Ordering::SeqCst) < 100
    });
    let (_dir, store) = store();
    client().resolve(&store, &reference(&front.host(), "private:1"), &amd64()).unwrap();
    assert_eq!(tokens.requests().len(), 2, "HEAD and GET with the first, the configuration with the second");
}

#[test]
fn trades_an_identity_token_in() {
    let registry = Registry::start();
    registry.push(&small_image(), "private", "1");
    let tokens = Server::start(|request| {
        let body = String::from_utf8(request.body.clone()).unwrap();
        match request.method == "POST" && body.contains("refresh_token=the%20secret") {
            true => Reply::new(200, r#"{"access_token":"abc"}"#),
            false => Reply::new(401, ""),
        }
    });
    let front = token_registry(registry.host(), format!("http://{}", tokens.host()), |token| token == "abc");
    let (dir, store) = store();
    let text = format!(r#"{{"auths":{{"{}":{{"identitytoken":"the secret"}}}}}}"#, front.host());
    std::fs::write(dir.path().join("config.json"), text).unwrap();
    let client = client_in(Environment::empty().with("DOCKER_CONFIG", dir.path()));
    client.resolve(&store, &reference(&front.host(), "private:1"), &amd64()).unwrap();
    assert_eq!(
        String::from_utf8(tokens.received()[0].body.clone()).unwrap(),
        "service=the%20service&scope=repository%3Aprivate%3Apull&grant_type=refresh_token&client_id=rbuild&refresh_token=the%20secret"
    );
}

#[test]
fn a_token_server_that_refuses_is_named() {
    let tokens = Server::start(|_| Reply::new(401, "no"));
    let front = token_registry(String::new(), format!("http://{}", tokens.host()), |_| false);
    let (_dir, store) = store();
    let error = client().resolve(&store, &reference(&front.host(), "private:1"), &amd64()).unwrap_err();
    assert!(error.to_string().contains("the token server `localhost` answered 401"), "{error}");
}

#[test]
fn a_login_is_not_sent_in_the_clear_to_another_machine() {
    let front = token_registry(String::new(), "http://tokens.example".to_owned(), |_| false);
    let (dir, store) = store();
    let client = client_in(login(dir.path(), &front.host(), USER, PASSWORD));
    let error = client.resolve(&store, &reference(&front.host(), "private:1"), &amd64()).unwrap_err();
    assert!(error.to_string().contains("`tokens.example` does not use https"), "{error}");
}

#[test]
fn a_redirect_does_not_take_the_login_along() {
    let registry = Registry::start_with_login();
    let image = small_image();
    registry.push(&image, "private", "1");
    let elsewhere = {
        let upstream = registry.host();
        Server::start(move |request| {
            let mut request = request.clone();
            request.headers.push(("authorization".to_owned(), basic(USER, PASSWORD)));
            forward(&upstream, &request)
        })
    };
    let target = elsewhere.host();
    let front = Server::between(registry.host(), move |request, reply| {
        match request.path.contains("/blobs/") && reply.status == 200 {
            true => Reply::new(307, "").header("location", format!("http://{target}{}", request.path)),
            false => reply,
        }
    });
    let (dir, store) = store();
    let client = client_in(login(dir.path(), &front.host(), USER, PASSWORD));
    let reference = reference(&front.host(), "private:1");
    let resolved = client.resolve(&store, &reference, &amd64()).unwrap();
    client.pull_layers(&store, &reference, &resolved.layers, &Progress::silent()).unwrap();
    assert_eq!(elsewhere.received().len(), 3, "configuration and two layers came from elsewhere");
    for request in elsewhere.received() {
        assert_eq!(request.header("authorization"), None, "{}", request.path);
    }
}

#[test]
fn podman_logins_may_name_a_repository() {
    let registry = Registry::start_with_login();
    registry.push(&small_image(), "private", "1");
    let (dir, store) = store();
    let podman = dir.path().join("auth.json");
    let auth = basic(USER, PASSWORD).replace("Basic ", "");
    std::fs::write(&podman, format!(r#"{{"auths":{{"{}/private":{{"auth":"{auth}"}}}}}}"#, registry.host()))
        .unwrap();
    let client = client_in(Environment::empty().with("REGISTRY_AUTH_FILE", &podman));
    client.resolve(&store, &reference(&registry.host(), "private:1"), &amd64()).unwrap();
}
