#![allow(clippy::unwrap_used)]

use super::*;

/// What `kubectl config view --raw` (1.32) makes of these two: the first that has an entry decides.
const FIRST: &str = "apiVersion: v1
kind: Config
current-context: one
preferences: {colors: true}
contexts:
- name: one
  context: {cluster: c, user: u, namespace: first}
clusters:
- name: c
  cluster: {server: 'https://A.example:6443/base/', certificate-authority: ca.crt}
users:
- name: u
  user: {tokenFile: token}
";
const SECOND: &str = "current-context: two
contexts:
- name: one
  context: {cluster: d, user: other, namespace: second}
- name: two
  context: {cluster: d, user: u}
- name: three
  context: {cluster: e, user: other}
- name: four
  context: {cluster: e, user: certified}
- name: five
  context: {cluster: e, user: program}
- name: six
  context: {cluster: nowhere, user: u}
clusters:
- name: c
  cluster: {server: 'https://b.example', insecure-skip-tls-verify: true}
- name: d
  cluster: {server: 'https://d.example', tls-server-name: inner, certificate-authority-data: Y2E=}
- name: e
  cluster:
    server: https://[::1]:7443
    insecure-skip-tls-verify: true
    proxy-url: http://proxy.example:3128
    extensions:
    - name: client.authentication.k8s.io/exec
      extension: {audience: x}
users:
- name: u
  user: {token: abc}
- name: other
  user: {username: me, password: pw, as: you, as-groups: [a, b], as-user-extra: {why: [so]}}
- name: certified
  user: {client-certificate: my.crt, client-key-data: a2V5}
- name: program
  user:
    exec:
      apiVersion: client.authentication.k8s.io/v1
      command: ./log-in
      args: [--for, me]
      env: [{name: A, value: b}]
      provideClusterInfo: true
      interactiveMode: IfAvailable
";

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        home.write("a.yaml", FIRST);
        home.write("b/config", SECOND);
        home.write("ca.crt", "authority");
        home.write("b/my.crt", "mine");
        home
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn environment(&self, files: &[&str]) -> Environment {
        let paths: Vec<String> =
            files.iter().map(|file| self.0.path().join(file).display().to_string()).collect();
        Environment::empty().with("KUBECONFIG", paths.join(":"))
    }

    fn access(&self, context: &str) -> Result<Access, String> {
        let environment = self.environment(&["a.yaml", "missing", "b/config"]);
        access(Some(context).filter(|name| !name.is_empty()), &environment)
    }
}

#[test]
fn files_are_merged_as_kubectl_does() {
    let home = Home::new();
    let one = home.access("").unwrap();
    assert_eq!(one.namespace.as_deref(), Some("first"));
    assert_eq!((one.origin.authority(), one.prefix.as_str()), ("a.example:6443".to_owned(), "/base"));
    assert_eq!(one.trust.ca.as_deref(), Some(&b"authority"[..]));
    assert_eq!(one.login, Login::TokenFile(home.0.path().join("token")));
    let two = home.access("two").unwrap();
    assert_eq!((two.namespace.clone(), two.server_name.as_deref()), (None, Some("inner")));
    assert_eq!(two.trust, Pem { ca: Some(b"ca".to_vec()), ..Pem::default() });
    assert_eq!(two.login, one.login);
}

#[test]
fn whom_it_asks_as() {
    let home = Home::new();
    let three = home.access("three").unwrap();
    assert_eq!(three.login, Login::Basic("me".to_owned(), "pw".to_owned()));
    let credential = three.login.credential().unwrap();
    assert_eq!(credential.authorization.as_deref(), Some("Basic bWU6cHc="));
    let headers: Vec<String> = three.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let expected = [
        "Impersonate-User: you",
        "Impersonate-Group: a",
        "Impersonate-Group: b",
        "Impersonate-Extra-why: so",
    ];
    assert_eq!(headers, expected);
    assert!(three.trust.is_unverified && three.origin.authority() == "[::1]:7443");
    assert_eq!(three.proxy.as_deref(), Some("http://proxy.example:3128"));
    let four = home.access("four").unwrap();
    assert_eq!(four.trust.client, Some((b"mine".to_vec(), b"key".to_vec())));
    for access in [three, four] {
        let shown = format!("{access:?}");
        assert!(!shown.contains("pw") && !shown.contains("key\""), "{shown}");
    }
}

#[test]
fn programs_are_asked() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::new();
    let five = home.access("five").unwrap();
    let program = |script: &str| {
        let path = home.0.path().join("b/log-in");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    assert!(five.login.credential().err().unwrap().contains("cannot be run"));
    let answer = |status: &str| {
        format!(
            "printf %s '{{\"kind\":\"ExecCredential\",\"apiVersion\":\"client.authentication.k8s.io/v1\",\"status\":{status}}}'"
        )
    };
    // It is told of the cluster, and what it is given stands in its words and variables.
    program(&format!(
        "[ \"$1 $2 $A\" = '--for me b' ] || exit 9
echo \"$KUBERNETES_EXEC_INFO\" >\"${{0%/*}}/told\"
{}",
        answer("{\"token\":\"t0ken\",\"expirationTimestamp\":\"2030-01-02T03:04:05Z\"}")
    ));
    let credential = five.login.credential().unwrap();
    assert_eq!(credential.authorization.as_deref(), Some("Bearer t0ken"));
    let until = credential.until.unwrap();
    assert!(!credential.is_over(until - 11) && credential.is_over(until - 10));
    let told: Value = serde_json::from_slice(&fs::read(home.0.path().join("b/told")).unwrap()).unwrap();
    assert_eq!(told["spec"]["cluster"]["server"], "https://[::1]:7443");
    assert_eq!(told["spec"]["cluster"]["config"]["audience"], "x");
    assert_eq!(told["spec"]["interactive"], false);
    program(&answer("{\"clientCertificateData\":\"C\",\"clientKeyData\":\"K\"}"));
    assert_eq!(five.login.credential().unwrap().client, Some((b"C".to_vec(), b"K".to_vec())));
    for (script, expected) in [
        ("exit 3".to_owned(), "failed (exit status: 3)"),
        ("echo no".to_owned(), "it prints no JSON"),
        ("echo '{}'".to_owned(), "it prints no ExecCredential of version"),
        (answer("{}"), "it gives neither a token nor a certificate"),
        (answer("{\"clientKeyData\":\"K\"}"), "a key without its certificate"),
        (answer("{\"token\":\"a b\\nc\"}"), "the token is none that can be sent"),
        (answer("{\"token\":\"t\",\"expirationTimestamp\":\"soon\"}"), "its time is none"),
    ] {
        program(&script);
        let told = five.login.credential().err().unwrap();
        assert!(told.contains(expected), "{script}: {told}");
    }
}

#[test]
fn what_is_wrong_is_said() {
    let home = Home::new();
    for (context, expected) in [
        ("tow", "has no context `tow`; `two`?"),
        ("six", "the context `six` names the cluster `nowhere`, which is not there"),
    ] {
        let told = home.access(context).unwrap_err();
        assert!(told.contains(expected), "{told}");
    }
    let context = "current-context: x\ncontexts: [{name: x, context: {cluster: c, user: u}}]\n";
    for (rest, expected) in [
        ("clusters: [{name: c, cluster: {}}]\nusers: [{name: u}]", "the cluster has no `server`"),
        (
            "clusters: [{name: c, cluster: {server: 'ftp://x'}}]\nusers: [{name: u}]",
            "no URL of http or https",
        ),
        (
            "clusters: [{name: c, cluster: {server: x, proxy-url: 'socks5://x'}}]\nusers: [{name: u}]",
            "`proxy-url`",
        ),
        (
            "clusters: [{name: c, cluster: {server: x, certificate-authority-data: '*'}}]\nusers: [{name: u}]",
            "`certificate-authority-data` is no base64",
        ),
        (
            "clusters: [{name: c, cluster: {server: x, certificate-authority: nope}}]\nusers: [{name: u}]",
            "nope`: ",
        ),
        (
            "clusters: [{name: c, cluster: {server: x}}]\nusers: [{name: u, user: {client-key-data: eA==}}]",
            "no certificate",
        ),
        (
            "clusters: [{name: c, cluster: {server: x}}]\nusers: [{name: u, user: {auth-provider: {name: x}}}]",
            "older",
        ),
        (
            "clusters: [{name: c, cluster: {server: x}}]\nusers: [{name: u, user: {exec: {apiVersion: client.authentication.k8s.io/v1alpha1, command: x}}}]",
            "known are v1 and v1beta1",
        ),
        (
            "clusters: [{name: c, cluster: {server: x}}]\nusers: [{name: u, user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: x, interactiveMode: Always}}}]",
            "wants a terminal",
        ),
        ("clusters: 7", "it is no kubeconfig"),
        ("clusters: [", "broken YAML"),
    ] {
        home.write("bad", &format!("{context}{rest}\n"));
        let told = access(None, &home.environment(&["bad"])).unwrap_err();
        assert!(told.contains(expected), "{rest}: {told}");
    }
    let none = access(None, &home.environment(&["missing"])).unwrap_err();
    assert!(none.contains("there is no kubeconfig"), "{none}");
    home.write("bad", "contexts: [{name: x, context: {}}]");
    let none = access(None, &home.environment(&["bad"])).unwrap_err();
    assert!(none.contains("no current context"), "{none}");
}

#[test]
fn a_pod_has_an_account() {
    let dir = tempfile::tempdir().unwrap();
    assert!(in_cluster(&Environment::empty(), dir.path()).unwrap().is_none());
    let environment = Environment::empty()
        .with("KUBERNETES_SERVICE_HOST", "fd00::1")
        .with("KUBERNETES_SERVICE_PORT", "443");
    assert!(in_cluster(&environment, dir.path()).unwrap_err().contains("no service account"));
    for (name, text) in [("token", "t\n"), ("ca.crt", "ca"), ("namespace", "builds\n")] {
        fs::write(dir.path().join(name), text).unwrap();
    }
    let access = in_cluster(&environment, dir.path()).unwrap().unwrap();
    assert_eq!(
        (access.origin.authority(), access.namespace.as_deref()),
        ("[fd00::1]".to_owned(), Some("builds"))
    );
    assert_eq!(access.login.credential().unwrap().authorization.as_deref(), Some("Bearer t"));
    // Which is read again when it changed.
    fs::write(dir.path().join("token"), "other").unwrap();
    assert_eq!(access.login.credential().unwrap().authorization.as_deref(), Some("Bearer other"));
}
