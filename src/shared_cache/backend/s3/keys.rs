//! Who asks: keys from the option, the environment, files, a web identity, a container or the machine, in this order.
//!
//! Left out: single sign-on, `credential_process`, and roles that are taken on with other keys (`source_profile`).

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use serde::Deserialize;

use super::sign::encoded;
use crate::clock;
use crate::http::{Connections, Environment, Method, Payload, Request, Settings, exchange};
use crate::oci::Seconds;
use crate::shared_cache::Error;
use crate::shared_cache::backend::web;
use crate::shared_cache::spec::{S3Keys, Secret};
use crate::sync::lock;

/// Keys that end sooner are asked for anew.
const MARGIN: Seconds = 300;
/// An answer with keys is shorter.
const LIMIT: u64 = 64 << 10;

/// What signs requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Keys {
    pub(super) id: Secret,
    pub(super) secret: Secret,
    /// Goes with keys that are lent.
    pub(super) session: Option<Secret>,
    /// When they end, in seconds since 1970.
    pub(super) until: Option<Seconds>,
}

/// Where keys come from.
#[derive(Debug)]
pub(super) struct Chain {
    given: Option<S3Keys>,
    environment: Environment,
    region: String,
    found: Mutex<Option<Keys>>,
}

impl Chain {
    /// Looks nowhere yet.
    pub(super) fn new(given: Option<S3Keys>, environment: Environment, region: String) -> Self {
        Self { given, environment, region, found: Mutex::default() }
    }

    /// Keys that still hold for a while.
    pub(super) fn keys(&self) -> Result<Keys, Error> {
        let mut found = lock(&self.found);
        let now = clock::now();
        if let Some(keys) = found.as_ref().filter(|keys| keys.until.is_none_or(|end| end - MARGIN > now)) {
            return Ok(keys.clone());
        }
        let keys = self.look()?;
        *found = Some(keys.clone());
        Ok(keys)
    }

    fn look(&self) -> Result<Keys, Error> {
        if let Some(S3Keys { id, secret, session }) = self.given.clone() {
            return Ok(Keys { id, secret, session, until: None });
        }
        if let Some(keys) = self.of_variables() {
            return Ok(keys);
        }
        let profile = Profile::read(&self.environment);
        let text = |name: &'static str| self.environment.text(&[name]).map(str::to_owned);
        let token = text("AWS_WEB_IDENTITY_TOKEN_FILE").zip(text("AWS_ROLE_ARN"));
        let of_profile = || profile.value("web_identity_token_file").zip(profile.value("role_arn"));
        if let Some((file, role)) = token {
            return self.of_web_identity(&file, &role);
        }
        if let Some(keys) = profile.keys() {
            return Ok(keys);
        }
        if let Some((file, role)) = of_profile() {
            return self.of_web_identity(&file, &role);
        }
        if let Some(keys) = self.of_container()? {
            return Ok(keys);
        }
        let keys = self.of_machine();
        keys.ok_or_else(|| {
            let where_to =
                "set `access_key_id` and `secret_access_key`, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
            Error::Server(format!("there are no keys for the bucket; {where_to}"))
        })
    }

    fn of_variables(&self) -> Option<Keys> {
        let get = |name: &str| self.environment.text(&[name]).map(|text| Secret(text.to_owned()));
        let (id, secret) = (get("AWS_ACCESS_KEY_ID")?, get("AWS_SECRET_ACCESS_KEY")?);
        Some(Keys { id, secret, session: get("AWS_SESSION_TOKEN"), until: None })
    }

    /// Exchanges a token, such as that of a workflow or a pod, for keys of a role.
    fn of_web_identity(&self, file: &str, role: &str) -> Result<Keys, Error> {
        let token = read(file)?;
        let name = self.environment.text(&["AWS_ROLE_SESSION_NAME"]).unwrap_or("rbuild");
        let own = format!("https://sts.{}.amazonaws.com", self.region);
        let url = self.environment.text(&["AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"]).unwrap_or(&own);
        let form = format!(
            "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn={}&RoleSessionName={}&WebIdentityToken={}",
            encoded(role, false),
            encoded(name, false),
            encoded(token.trim(), false)
        );
        let request = Request::new(Method::POST, format!("{}/", url.trim_end_matches('/')))
            .header("content-type", "application/x-www-form-urlencoded")
            .payload(Payload::Bytes(form.as_bytes()));
        let xml = body(&Connections::new(web::settings(self.environment.clone())), &request)
            .map_err(|why| Error::Server(format!("the role `{role}` cannot be had: {why}")))?;
        let get = |name| web::element(&xml, name).map(Secret);
        let keys = get("AccessKeyId").zip(get("SecretAccessKey"));
        let until = web::element(&xml, "Expiration").and_then(|text| seconds(&text));
        let keys = keys.map(|(id, secret)| Keys { id, secret, session: get("SessionToken"), until });
        keys.ok_or_else(|| Error::Server(format!("the role `{role}` cannot be had: no keys were given")))
    }

    /// From the service beside a container of ECS or EKS.
    fn of_container(&self) -> Result<Option<Keys>, Error> {
        let get = |name: &str| self.environment.text(&[name]);
        let relative = get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
        let url = match (relative, get("AWS_CONTAINER_CREDENTIALS_FULL_URI")) {
            (Some(path), _) => format!("http://169.254.170.2{path}"),
            (None, Some(url)) => url.to_owned(),
            (None, None) => return Ok(None),
        };
        let mut request = Request::new(Method::GET, url);
        request.authorization = match get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
            Some(file) => Some(read(file)?.trim().to_owned()),
            None => get("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(str::to_owned),
        };
        let lent = body(&nearby(), &request).and_then(|json| Lent::parse(&json));
        lent.map(Some).map_err(|why| Error::Server(format!("the container's keys cannot be had: {why}")))
    }

    /// From the metadata of a machine of EC2, by its second protocol. Elsewhere nobody answers.
    fn of_machine(&self) -> Option<Keys> {
        let is_off = self.environment.text(&["AWS_EC2_METADATA_DISABLED"]).is_some_and(|word| word == "true");
        if is_off {
            return None;
        }
        let endpoint = self.environment.text(&["AWS_EC2_METADATA_SERVICE_ENDPOINT"]);
        let endpoint = endpoint.unwrap_or("http://169.254.169.254").trim_end_matches('/');
        let connections = nearby();
        let request = Request::new(Method::PUT, format!("{endpoint}/latest/api/token"))
            .header("x-aws-ec2-metadata-token-ttl-seconds", "21600")
            .payload(Payload::Bytes(&[]));
        let token = body(&connections, &request).ok()?;
        let get = |path: &str| {
            let url = format!("{endpoint}/latest/meta-data/iam/security-credentials/{path}");
            let request = Request::new(Method::GET, url).header("x-aws-ec2-metadata-token", token.as_str());
            body(&connections, &request)
        };
        let role = get("").ok()?;
        Lent::parse(&get(role.lines().next()?.trim()).ok()?).ok()
    }
}

/// The region that the environment names.
pub(super) fn region(environment: &Environment) -> Option<String> {
    let named = environment.text(&["AWS_REGION", "AWS_DEFAULT_REGION"]).map(str::to_owned);
    named.or_else(|| Profile::read(environment).value("region"))
}

/// Connections to what is on this machine or next to it: no proxy, and no patience.
fn nearby() -> Connections {
    let soon = Duration::from_secs(1);
    Connections::new(Settings {
        connect_timeout: soon,
        stall_timeout: 2 * soon,
        attempts: 1,
        ..web::settings(Environment::empty())
    })
}

/// The answer to a request that must succeed. The error repeats nothing of it.
fn body(connections: &Connections, request: &Request<'_>) -> Result<String, String> {
    let mut response = exchange(connections, request).map_err(|failure| failure.cause)?;
    let mut text = String::new();
    if !response.status.is_success() {
        return Err(web::refused(&mut response).to_string());
    }
    let read = response.reader(LIMIT).read_to_string(&mut text);
    read.map(|_| text).map_err(crate::http::cause_of)
}

fn read(file: &str) -> Result<String, Error> {
    std::fs::read_to_string(file).map_err(|e| Error::io("read", file.as_ref(), e))
}

fn seconds(time: &str) -> Option<Seconds> {
    time.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}

/// Keys as containers and machines are told them.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Lent {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
    expiration: Option<String>,
}

impl Lent {
    fn parse(json: &str) -> Result<Keys, String> {
        let lent: Self = serde_json::from_str(json).map_err(|_| "no keys were given".to_owned())?;
        Ok(Keys {
            id: Secret(lent.access_key_id),
            secret: Secret(lent.secret_access_key),
            session: lent.token.map(Secret),
            until: lent.expiration.and_then(|text| seconds(&text)),
        })
    }
}

/// What the files of Amazon's own programs say of the profile that AWS_PROFILE names.
#[derive(Default)]
struct Profile(BTreeMap<String, String>);

impl Profile {
    fn read(environment: &Environment) -> Self {
        let name = environment.text(&["AWS_PROFILE", "AWS_DEFAULT_PROFILE"]).unwrap_or("default");
        let file = |variable: &str, usual: &str| {
            environment.get(variable).map(PathBuf::from).or_else(|| environment.path("HOME", usual))
        };
        let mut profile = Self::default();
        // The second overrides the first.
        for (file, section) in [
            (file("AWS_CONFIG_FILE", ".aws/config"), format!("profile {name}")),
            (file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"), name.to_owned()),
        ] {
            let text = file.and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
            profile.add(&text, &section, name);
        }
        profile
    }

    /// Takes over one section. The default profile has no `profile` before its name in either file.
    fn add(&mut self, text: &str, section: &str, name: &str) {
        let mut is_in = false;
        for line in text.lines().map(str::trim) {
            if let Some(head) = line.strip_prefix('[').and_then(|line| line.split(']').next()) {
                is_in = head.trim() == section || (name == "default" && head.trim() == name);
            } else if let Some((key, value)) = line.split_once('=').filter(|_| is_in) {
                self.0.insert(key.trim().to_lowercase(), value.trim().to_owned());
            }
        }
    }

    fn value(&self, key: &str) -> Option<String> {
        self.0.get(key).filter(|value| !value.is_empty()).cloned()
    }

    fn keys(&self) -> Option<Keys> {
        let get = |key| self.value(key).map(Secret);
        let (id, secret) = (get("aws_access_key_id")?, get("aws_secret_access_key")?);
        Some(Keys { id, secret, session: get("aws_session_token"), until: None })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::http::test_server::{answer, serve};

    /// The keys in such an environment, as `id secret session`.
    fn found(environment: &Environment) -> Result<String, String> {
        let chain = Chain::new(None, environment.clone(), "eu-1".to_owned());
        let keys = chain.keys().map_err(|error| error.to_string())?;
        assert_eq!(chain.keys().unwrap(), keys);
        Ok(format!("{} {} {}", keys.id.0, keys.secret.0, keys.session.map(|s| s.0).unwrap_or_default()))
    }

    fn nowhere() -> Environment {
        Environment::empty().with("AWS_EC2_METADATA_DISABLED", "true")
    }

    #[test]
    fn variables_go_before_files() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".aws")).unwrap();
        let credentials = "[default]\naws_access_key_id = d\naws_secret_access_key = ds\n\n# comment\n[ci]\naws_access_key_id=c\naws_secret_access_key=cs=\naws_session_token=ct\n";
        std::fs::write(home.path().join(".aws/credentials"), credentials).unwrap();
        let config = "[default]\nregion = eu-2\n[profile ci]\nregion = eu-3\naws_access_key_id=other\n";
        std::fs::write(home.path().join(".aws/config"), config).unwrap();
        let at_home = nowhere().with("HOME", home.path());
        assert_eq!(found(&at_home).unwrap(), "d ds ");
        assert_eq!(region(&at_home).as_deref(), Some("eu-2"));
        let ci = at_home.clone().with("AWS_PROFILE", "ci");
        assert_eq!(found(&ci).unwrap(), "c cs= ct");
        assert_eq!(region(&ci).as_deref(), Some("eu-3"));
        assert_eq!(region(&ci.clone().with("AWS_REGION", "eu-4")).as_deref(), Some("eu-4"));
        let set = ci.with("AWS_ACCESS_KEY_ID", "v").with("AWS_SECRET_ACCESS_KEY", "vs");
        assert_eq!(found(&set).unwrap(), "v vs ");
        let none = found(&nowhere()).unwrap_err();
        assert!(none.starts_with("there are no keys for the bucket; set `access_key_id`"), "{none}");
    }

    #[test]
    fn roles_containers_and_machines_lend_keys() {
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("token");
        std::fs::write(&token, "a token\n").unwrap();
        let xml = "<R><Credentials><AccessKeyId>r</AccessKeyId><SecretAccessKey>rs</SecretAccessKey><SessionToken>rt</SessionToken><Expiration>2999-01-01T00:00:00Z</Expiration></Credentials></R>";
        let role = nowhere()
            .with("AWS_ENDPOINT_URL_STS", serve(vec![answer("200 OK", "", xml)]))
            .with("AWS_WEB_IDENTITY_TOKEN_FILE", &token)
            .with("AWS_ROLE_ARN", "arn:aws:iam::1:role/ci");
        assert_eq!(found(&role).unwrap(), "r rs rt");
        let refused = "<E><Error><Code>InvalidIdentityToken</Code></Error></E>";
        let refused = role.with("AWS_ENDPOINT_URL_STS", serve(vec![answer("400 Bad", "", refused)]));
        let said = found(&refused).unwrap_err();
        assert!(said.contains("answers 400 (InvalidIdentityToken)") && !said.contains("a token"), "{said}");

        let json =
            r#"{"AccessKeyId":"l","SecretAccessKey":"ls","Token":"lt","Expiration":"2999-01-01T00:00:00Z"}"#;
        let url = serve(vec![answer("200 OK", "", json)]);
        assert_eq!(found(&nowhere().with("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)).unwrap(), "l ls lt");
        let url = serve(vec![answer("200 OK", "", "{}")]);
        let said = found(&nowhere().with("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)).unwrap_err();
        assert_eq!(said, "the container's keys cannot be had: no keys were given");

        let url = serve(["token", "role", json].map(|body| answer("200 OK", "", body)).to_vec());
        let machine = Environment::empty().with("AWS_EC2_METADATA_SERVICE_ENDPOINT", url);
        assert_eq!(found(&machine).unwrap(), "l ls lt");
    }

    #[test]
    fn keys_that_end_are_asked_for_again() {
        let json = |id: &str| {
            let text = format!(
                r#"{{"AccessKeyId":"{id}","SecretAccessKey":"s","Expiration":"2000-01-01T00:00:00Z"}}"#
            );
            answer("200 OK", "", &text)
        };
        let url = serve(vec![json("one"), json("two")]);
        let environment = nowhere().with("AWS_CONTAINER_CREDENTIALS_FULL_URI", url);
        let chain = Chain::new(None, environment, "eu-1".to_owned());
        let ids = [chain.keys().unwrap().id.0, chain.keys().unwrap().id.0];
        assert_eq!(ids, ["one", "two"]);
    }
}
