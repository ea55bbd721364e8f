//! Proxies of docker's `config.json`: its command line gives them to every build.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::error::{self, Error};

#[derive(Deserialize, Default)]
#[serde(default)]
struct File {
    proxies: BTreeMap<String, Proxies>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Proxies {
    http_proxy: Option<String>,
    https_proxy: Option<String>,
    no_proxy: Option<String>,
    ftp_proxy: Option<String>,
    all_proxy: Option<String>,
}

/// As variables, each in capital and small letters: those of the daemon that `$DOCKER_HOST` names, else the default ones. A file that
/// is not there, or is wrong, says nothing: docker's logins are read from it, too, and told of there.
pub fn dockers_proxies() -> Vec<(String, String)> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let folder = variable("DOCKER_CONFIG").map(PathBuf::from);
    let folder = folder.or_else(|| Some(PathBuf::from(variable("HOME")?).join(".docker")));
    let Some(file) = folder.map(|folder| folder.join("config.json")) else { return Vec::new() };
    let text: Result<Option<String>, Error> = error::read(&file);
    let host = variable("DOCKER_HOST").and_then(|host| host.into_string().ok());
    text.ok().flatten().map(|text| read(&text, host.as_deref())).unwrap_or_default()
}

fn read(text: &str, host: Option<&str>) -> Vec<(String, String)> {
    let mut file: File = serde_json::from_str(text).unwrap_or_default();
    let of_host = host.and_then(|host| file.proxies.remove(host));
    let Some(found) = of_host.or_else(|| file.proxies.remove("default")) else { return Vec::new() };
    let Proxies { http_proxy, https_proxy, no_proxy, ftp_proxy, all_proxy } = found;
    let all = [
        ("HTTP_PROXY", http_proxy),
        ("HTTPS_PROXY", https_proxy),
        ("NO_PROXY", no_proxy),
        ("FTP_PROXY", ftp_proxy),
        ("ALL_PROXY", all_proxy),
    ];
    let set =
        all.into_iter().filter_map(|(name, value)| Some((name, value.filter(|value| !value.is_empty())?)));
    set.flat_map(|(name, value)| [(name.to_owned(), value.clone()), (name.to_ascii_lowercase(), value)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_of_the_daemon_go_first() {
        let text = r#"{"auths":{},"proxies":{"default":{"httpProxy":"http://p:1","noProxy":"a,b","allProxy":""},
            "tcp://h:1":{"httpsProxy":"http://q:2"}}}"#;
        let shown = |host| {
            let all: Vec<String> =
                read(text, host).iter().map(|(name, value)| format!("{name}={value}")).collect();
            all.join(" ")
        };
        let usual = "HTTP_PROXY=http://p:1 http_proxy=http://p:1 NO_PROXY=a,b no_proxy=a,b";
        assert_eq!(shown(None), usual);
        assert_eq!(shown(Some("unix:///x")), usual);
        assert_eq!(shown(Some("tcp://h:1")), "HTTPS_PROXY=http://q:2 https_proxy=http://q:2");
        for wrong in ["", "{", "[]", r#"{"proxies":3}"#] {
            assert!(read(wrong, None).is_empty(), "{wrong}");
        }
    }
}
