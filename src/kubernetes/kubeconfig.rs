//! Which API server, and as whom: read from the files that kubectl reads, or from what a pod has of its own.
//!
//! Rules are those of `kubectl config view`: of several files in KUBECONFIG the first that has an entry decides about it, relative
//! paths are relative to their file, and what stands in the file goes before what a path names. What other programs keep in these
//! files is left alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::login::{Login, Plugin};
use crate::http::{Environment, Origin, Pem, origin_of};
use crate::report::Source;
use crate::yaml;

/// Where a pod has its service account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// A file that is larger is none of these.
const LIMIT: u64 = 8 << 20;

/// All that is needed to ask a cluster.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    pub(crate) origin: Origin,
    /// What comes before the API's own paths, without a slash at its end.
    pub(crate) prefix: String,
    /// What calls are in, where none is named.
    pub(crate) namespace: Option<String>,
    pub(crate) trust: Pem,
    /// What the server's certificate has to be for, if that is not its host.
    pub(crate) server_name: Option<String>,
    pub(crate) login: Login,
    /// Headers that say as whom to act.
    pub(crate) headers: Vec<(String, String)>,
    /// The proxy that the file names.
    pub(crate) proxy: Option<String>,
}

/// A file as it is written, as far as it counts.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "kebab-case")]
struct File {
    current_context: Option<String>,
    contexts: Option<Vec<NamedContext>>,
    clusters: Option<Vec<NamedCluster>>,
    users: Option<Vec<NamedUser>>,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: Option<Context>,
}

#[derive(Deserialize, Clone, Default)]
#[serde(default)]
struct Context {
    cluster: String,
    user: String,
    namespace: Option<String>,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Option<Cluster>,
}

#[derive(Deserialize, Clone, Default)]
#[serde(default, rename_all = "kebab-case")]
struct Cluster {
    server: String,
    tls_server_name: Option<String>,
    insecure_skip_tls_verify: bool,
    certificate_authority: Option<String>,
    certificate_authority_data: Option<String>,
    proxy_url: Option<String>,
    extensions: Option<Vec<Extension>>,
}

#[derive(Deserialize, Clone)]
struct Extension {
    name: String,
    extension: Value,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    user: Option<User>,
}

#[derive(Deserialize, Clone, Default)]
#[serde(default, rename_all = "kebab-case")]
struct User {
    client_certificate: Option<String>,
    client_certificate_data: Option<String>,
    client_key: Option<String>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<String>,
    username: Option<String>,
    password: Option<String>,
    #[serde(rename = "as")]
    as_user: Option<String>,
    as_uid: Option<String>,
    as_groups: Option<Vec<String>>,
    as_user_extra: Option<BTreeMap<String, Vec<String>>>,
    exec: Option<Exec>,
    auth_provider: Option<Value>,
}

#[derive(Deserialize, Clone, Default)]
#[serde(default, rename_all = "camelCase")]
struct Exec {
    api_version: String,
    command: String,
    args: Option<Vec<String>>,
    env: Option<Vec<Variable>>,
    install_hint: Option<String>,
    provide_cluster_info: bool,
    interactive_mode: Option<String>,
}

#[derive(Deserialize, Clone)]
struct Variable {
    name: String,
    value: String,
}

/// All files as one, each entry with the folder of its file.
#[derive(Default)]
struct Merged {
    current: String,
    contexts: BTreeMap<String, Context>,
    clusters: BTreeMap<String, (Cluster, PathBuf)>,
    users: BTreeMap<String, (User, PathBuf)>,
}

/// Finds out how a context's cluster is asked; without one the current one, or in a pod the cluster that it runs in.
///
/// # Errors
/// In words, with the file and what is wrong there.
pub(crate) fn access(context: Option<&str>, environment: &Environment) -> Result<Access, String> {
    let files = files(environment);
    let merged = merged(&files)?;
    let name = match context {
        Some(name) => name,
        None => merged.current.as_str(),
    };
    if name.is_empty() {
        return match in_cluster(environment, Path::new(ACCOUNT))? {
            Some(access) => Ok(access),
            None if merged.contexts.is_empty() => {
                Err(format!("there is no kubeconfig: {} is not there", shown(&files)))
            }
            None => {
                Err("the kubeconfig has no current context; say `kubernetes://CONTEXT/NAMESPACE`".to_owned())
            }
        };
    }
    let Some(found) = merged.contexts.get(name) else {
        let near = crate::text::closest(name, merged.contexts.keys().map(String::as_str));
        let near = near.map(|near| format!("; `{near}`?")).unwrap_or_default();
        return Err(format!("{} has no context `{name}`{near}", shown(&files)));
    };
    let of = |what: &str, entry: &str| {
        format!("the context `{name}` names the {what} `{entry}`, which is not there")
    };
    let cluster = merged.clusters.get(&found.cluster).ok_or_else(|| of("cluster", &found.cluster))?;
    let nobody = (User::default(), PathBuf::new());
    let user = match found.user.as_str() {
        "" => &nobody,
        user => merged.users.get(user).ok_or_else(|| of("user", user))?,
    };
    let access = of_entries(found, cluster, user);
    access.map_err(|why| format!("the context `{name}` of the kubeconfig: {why}"))
}

/// The files of KUBECONFIG, or kubectl's own.
fn files(environment: &Environment) -> Vec<PathBuf> {
    if let Some(list) = environment.get("KUBECONFIG") {
        let mut files: Vec<PathBuf> = Vec::new();
        for path in std::env::split_paths(list).filter(|path| !path.as_os_str().is_empty()) {
            if !files.contains(&path) {
                files.push(path);
            }
        }
        return files;
    }
    environment.path("HOME", ".kube/config").into_iter().collect()
}

fn shown(files: &[PathBuf]) -> String {
    match files {
        [] => "`~/.kube/config`".to_owned(),
        files => files.iter().map(|file| format!("`{}`", file.display())).collect::<Vec<_>>().join(" and "),
    }
}

fn merged(files: &[PathBuf]) -> Result<Merged, String> {
    let mut merged = Merged::default();
    for path in files {
        let in_file = |what: &dyn std::fmt::Display| format!("`{}`: {what}", path.display());
        let bytes = match read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(in_file(&e)),
        };
        let text = String::from_utf8(bytes).map_err(|_| in_file(&"it is no UTF-8"))?;
        let source = Arc::new(Source { name: path.display().to_string(), text });
        // What the file has may be secret: of a fault only its sentence is told.
        let documents = yaml::parse(&source).map_err(|told| in_file(&told.message))?;
        let Some(document) = documents.first().filter(|document| !document.is_null()) else { continue };
        let file: File = serde_json::from_value(document.to_json())
            .map_err(|_| in_file(&"it is no kubeconfig: an entry has not the form that kubectl knows"))?;
        let folder = path.parent().unwrap_or(Path::new(".")).to_owned();
        if merged.current.is_empty() {
            merged.current = file.current_context.unwrap_or_default();
        }
        for NamedContext { name, context } in file.contexts.into_iter().flatten() {
            merged.contexts.entry(name).or_insert(context.unwrap_or_default());
        }
        for NamedCluster { name, cluster } in file.clusters.into_iter().flatten() {
            merged.clusters.entry(name).or_insert((cluster.unwrap_or_default(), folder.clone()));
        }
        for NamedUser { name, user } in file.users.into_iter().flatten() {
            merged.users.entry(name).or_insert((user.unwrap_or_default(), folder.clone()));
        }
    }
    Ok(merged)
}

fn of_entries(
    context: &Context,
    (cluster, cluster_folder): &(Cluster, PathBuf),
    (user, user_folder): &(User, PathBuf),
) -> Result<Access, String> {
    let (origin, prefix) = server(&cluster.server)?;
    let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let ca = given(
        "certificate-authority",
        &filled(&cluster.certificate_authority_data),
        &filled(&cluster.certificate_authority),
        cluster_folder,
    )?;
    if cluster.insecure_skip_tls_verify && ca.is_some() {
        return Err("`insecure-skip-tls-verify` goes with no authority".to_owned());
    }
    let certificate = given(
        "client-certificate",
        &filled(&user.client_certificate_data),
        &filled(&user.client_certificate),
        user_folder,
    )?;
    let key = given("client-key", &filled(&user.client_key_data), &filled(&user.client_key), user_folder)?;
    let client = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => return Err("the user has a client certificate and no key of it".to_owned()),
        (None, Some(_)) => return Err("the user has a client key and no certificate of it".to_owned()),
    };
    if let Some(proxy) = filled(&cluster.proxy_url)
        && !proxy.starts_with("http://")
    {
        return Err("`proxy-url` names a proxy that is not spoken to with `http://`, which is not supported"
            .to_owned());
    }
    let trust = Pem { ca, client, is_unverified: cluster.insecure_skip_tls_verify };
    Ok(Access {
        login: login(user, user_folder, cluster, &trust)?,
        headers: acting_as(user)?,
        server_name: filled(&cluster.tls_server_name),
        namespace: filled(&context.namespace),
        proxy: filled(&cluster.proxy_url),
        origin,
        prefix,
        trust,
    })
}

/// The URL of a server.
fn server(url: &str) -> Result<(Origin, String), String> {
    if url.is_empty() {
        return Err("the cluster has no `server`".to_owned());
    }
    let url = match url.contains("://") {
        true => url.to_owned(),
        // As client-go has it.
        false => format!("http://{url}"),
    };
    let (_, rest) = url.split_once("://").unwrap_or_default();
    let bad = || "its `server` is no URL of http or https".to_owned();
    if rest.contains(['?', '#', '@', ' ']) {
        return Err(bad());
    }
    let prefix = rest.split_once('/').map_or("", |(_, path)| path).trim_end_matches('/');
    let prefix = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
    Ok((origin_of(&url).map_err(|_| bad())?, prefix))
}

/// What stands in the file, or in the file that it names.
fn given(
    what: &str,
    data: &Option<String>,
    path: &Option<String>,
    folder: &Path,
) -> Result<Option<Vec<u8>>, String> {
    match (data, path) {
        (Some(data), _) => {
            super::decoded(data).map(Some).ok_or_else(|| format!("`{what}-data` is no base64"))
        }
        (None, Some(path)) => {
            let path = folder.join(path);
            read(&path).map(Some).map_err(|e| format!("`{what}` is `{}`: {e}", path.display()))
        }
        (None, None) => Ok(None),
    }
}

fn login(user: &User, folder: &Path, cluster: &Cluster, trust: &Pem) -> Result<Login, String> {
    let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    if user.auth_provider.as_ref().is_some_and(|provider| !provider.is_null()) {
        return Err(
            "`auth-provider` is of an older Kubernetes; its successors are programs (`exec`)".to_owned()
        );
    }
    if let Some(file) = filled(&user.token_file) {
        return Ok(Login::TokenFile(folder.join(file)));
    }
    if let Some(token) = filled(&user.token) {
        return Ok(Login::Token(token));
    }
    if let Some(name) = filled(&user.username) {
        return Ok(Login::Basic(name, user.password.clone().unwrap_or_default()));
    }
    let Some(exec) = &user.exec else { return Ok(Login::None) };
    if exec.command.is_empty() {
        return Err("`exec` names no command".to_owned());
    }
    match exec.api_version.as_str() {
        "client.authentication.k8s.io/v1" | "client.authentication.k8s.io/v1beta1" => {}
        other => return Err(format!("`exec` is of version `{other}`; known are v1 and v1beta1")),
    }
    if exec.interactive_mode.as_deref() == Some("Always") {
        let command = &exec.command;
        return Err(format!(
            "`{command}` wants a terminal (`interactiveMode: Always`), which a build does not give it"
        ));
    }
    let mut told = serde_json::Map::new();
    if exec.provide_cluster_info {
        told.insert("server".to_owned(), cluster.server.clone().into());
        let name = filled(&cluster.tls_server_name);
        told.extend(name.map(|name| ("tls-server-name".to_owned(), name.into())));
        if trust.is_unverified {
            told.insert("insecure-skip-tls-verify".to_owned(), true.into());
        }
        let ca = trust.ca.as_ref().map(|ca| super::encoded(ca));
        told.extend(ca.map(|ca| ("certificate-authority-data".to_owned(), ca.into())));
        let proxy = filled(&cluster.proxy_url);
        told.extend(proxy.map(|url| ("proxy-url".to_owned(), url.into())));
        let mut others = cluster.extensions.iter().flatten();
        let own = others.find(|extension| extension.name == "client.authentication.k8s.io/exec");
        told.extend(own.map(|own| ("config".to_owned(), own.extension.clone())));
    }
    // A path is relative to the file, a name is looked up.
    let program = match exec.command.contains('/') {
        true => folder.join(&exec.command),
        false => PathBuf::from(&exec.command),
    };
    let variable = |Variable { name, value }: &Variable| (name.clone(), value.clone());
    Ok(Login::Plugin(Box::new(Plugin {
        version: exec.api_version.clone(),
        program,
        arguments: exec.args.clone().unwrap_or_default(),
        variables: exec.env.iter().flatten().map(variable).collect(),
        hint: filled(&exec.install_hint),
        cluster: exec.provide_cluster_info.then_some(Value::Object(told)),
    })))
}

/// Headers that make the server act as somebody else.
fn acting_as(user: &User) -> Result<Vec<(String, String)>, String> {
    let mut headers = Vec::new();
    let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    headers.extend(filled(&user.as_user).map(|name| ("Impersonate-User".to_owned(), name)));
    headers.extend(filled(&user.as_uid).map(|uid| ("Impersonate-Uid".to_owned(), uid)));
    let groups = user.as_groups.iter().flatten();
    headers.extend(groups.map(|group| ("Impersonate-Group".to_owned(), group.clone())));
    for (name, values) in user.as_user_extra.iter().flatten() {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if !name.chars().all(is_plain) {
            return Err(format!("`as-user-extra` has the name `{name}`, which is not supported"));
        }
        headers.extend(values.iter().map(|value| (format!("Impersonate-Extra-{name}"), value.clone())));
    }
    Ok(headers)
}

/// What a pod has of its own; `None` outside of one.
fn in_cluster(environment: &Environment, account: &Path) -> Result<Option<Access>, String> {
    let (host, port) = ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT");
    let (Some(host), Some(port)) = (environment.text(&[host]), environment.text(&[port])) else {
        return Ok(None);
    };
    let token = account.join("token");
    if !token.is_file() {
        return Err(format!("this pod has no service account: `{}` is not there", token.display()));
    }
    let bracketed = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let (origin, prefix) = server(&format!("https://{bracketed}:{port}"))?;
    let ca = account.join("ca.crt");
    let ca = read(&ca).map_err(|e| format!("`{}`: {e}", ca.display()))?;
    let namespace = fs::read_to_string(account.join("namespace")).ok().map(|text| text.trim().to_owned());
    Ok(Some(Access {
        origin,
        prefix,
        namespace: namespace.filter(|name| !name.is_empty()),
        trust: Pem { ca: Some(ca), ..Pem::default() },
        server_name: None,
        login: Login::TokenFile(token),
        headers: Vec::new(),
        proxy: None,
    }))
}

/// A file of bounded size.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let read = fs::File::open(path)?.take(LIMIT + 1).read_to_end(&mut bytes)?;
    match read as u64 > LIMIT {
        true => Err(std::io::Error::other("it is too large")),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests;
