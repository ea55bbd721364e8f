//! `docs/configuration.md` and `docs/config.schema.json` name every key and variable that there is, and no other.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::golden;
use crate::support::program::World;

const PAGE: &str = "docs/configuration.md";

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(repository().join(name)).unwrap()
}

/// `defaults.cache-from` with its description, for each key that has a value.
fn keys(schema: &Value, above: &str, found: &mut Vec<(String, Value)>) {
    assert!(
        schema.get("additionalProperties").is_some(),
        "{above}: the program refuses what it does not know, so the schema has to say what else may be there"
    );
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        match inner["type"].as_str() {
            Some("object") => keys(inner, &format!("{above}{name}."), found),
            _ => found.push((format!("{above}{name}"), inner.clone())),
        }
    }
    match &schema["additionalProperties"] {
        Value::Object(inner) if inner.get("properties").is_some() => {
            keys(&schema["additionalProperties"], &format!("{above}NAME."), found);
        }
        Value::Object(inner) => {
            let described = serde_json::json!({"type": inner["type"], "description": schema["description"]});
            found.push((format!("{above}NAME"), described));
        }
        _ => {}
    }
}

fn all_keys() -> Vec<(String, Value)> {
    let mut found = Vec::new();
    keys(&serde_json::from_str(&read("docs/config.schema.json")).unwrap(), "", &mut found);
    found
}

#[test]
fn the_page_has_the_keys_of_the_schema() {
    let rows: String = all_keys()
        .iter()
        .map(|(key, schema)| {
            let kind = match schema["type"].as_str().unwrap() {
                "array" if schema["items"]["type"] == "object" => "list of tables",
                "array" => "list of texts",
                "boolean" => "`true` or `false`",
                _ => "text",
            };
            let usual = match schema.get("default") {
                Some(Value::String(text)) => format!("; else `{text}`"),
                _ => String::new(),
            };
            format!("| `{key}` | {kind} | {}{usual} |\n", schema["description"].as_str().unwrap())
        })
        .collect();
    let page = read(PAGE);
    let head = "| key | value | |\n|---|---|---|\n";
    let (before, rest) = page.split_once(head).unwrap();
    let (_, after) = rest.split_once("\n<!-- end -->").unwrap();
    golden::check_file(PAGE, &format!("{before}{head}{rows}\n<!-- end -->{after}"));
}

/// A file that says this one thing.
fn said(key: &str, value: &str) -> String {
    match key.rsplit_once('.') {
        None => format!("{key} = {value}\n"),
        Some((table, "NAME")) => format!("[{table}]\nbase = {value}\n"),
        Some((table, key)) => {
            format!("[{}]\n{key} = {value}\n", table.replace("NAME", "\"registry.example.org\""))
        }
    }
}

fn load(world: &World, text: &str) -> (i32, String) {
    let file = world.path().join("config.toml");
    fs::write(&file, text).unwrap();
    let ran = world.rbuild(["config"]).env("RBUILD_CONFIG", file).any_stdout().any_status().run();
    (ran.status.unwrap_or(-1), ran.stderr)
}

#[test]
fn every_key_is_known_and_every_other_is_refused() {
    let world = World::new();
    let known = all_keys();
    for (key, schema) in &known {
        let value = match (schema["type"].as_str().unwrap(), key.as_str()) {
            ("boolean", _) => "true",
            ("array", "policy.image" | "policy.url") => "[{ match = \"*\", deny = true }]",
            (_, "policy.default") => "\"deny\"",
            ("array", _) => "[\"registry.example.org\"]",
            (_, "store.quota") => "\"5g\"",
            (_, "defaults.progress") => "\"plain\"",
            (_, "defaults.platform") => "\"linux/amd64\"",
            (_, "defaults.network") => "\"none\"",
            _ => "\"registry.example.org/team/base\"",
        };
        let (code, told) = load(&world, &said(key, value));
        assert_eq!(code, 0, "{key}: {told}");
    }
    // What the program itself says that it knows, in each table.
    for table in ["", "store.", "defaults.", "history.", "policy.", "registry.NAME."] {
        let (code, told) = load(&world, &said(&format!("{table}no-such-key"), "1"));
        assert_eq!(code, 2, "{table}: {told}");
        let (_, list) = told.split_once("unknown field `no-such-key`, expected ").expect("names the others");
        let program: BTreeSet<&str> = list.lines().next().unwrap().split('`').skip(1).step_by(2).collect();
        let here =
            |key: &String| key.strip_prefix(table).map(|rest| rest.split('.').next().unwrap().to_owned());
        let schema: BTreeSet<String> = known.iter().filter_map(|(key, _)| here(key)).collect();
        assert_eq!(program, schema.iter().map(String::as_str).collect(), "{table}");
    }
}

/// Rules have tables of their own, within lists.
#[test]
fn rules_have_the_keys_of_the_schema() {
    let world = World::new();
    let schema: Value = serde_json::from_str(&read("docs/config.schema.json")).unwrap();
    let expected = |text: &str| {
        let (code, told) = load(&world, text);
        assert_eq!(code, 2, "{told}");
        let (_, list) = told.split_once("unknown field `no-such-key`, expected ").expect("names the others");
        let program = list.lines().next().unwrap().split('`').skip(1).step_by(2);
        program.map(str::to_owned).collect::<BTreeSet<String>>()
    };
    for table in ["image", "url"] {
        let rule = &schema["properties"]["policy"]["properties"][table]["items"];
        let attested = &rule["properties"]["attestations"]["items"];
        let keys =
            |of: &Value| of["properties"].as_object().unwrap().keys().cloned().collect::<BTreeSet<String>>();
        let text = format!("[[policy.{table}]]\nmatch = \"*\"\n");
        assert_eq!(expected(&format!("{text}no-such-key = 1\n")), keys(rule));
        let inner = format!("{text}[[policy.{table}.attestations]]\nno-such-key = 1\n");
        assert_eq!(expected(&inner), keys(attested));
    }
}

#[test]
fn the_example_of_the_page_is_right() {
    let page = read(PAGE);
    let (_, rest) = page.split_once("```toml\n").unwrap();
    let (code, told) = load(&World::new(), rest.split_once("```").unwrap().0);
    assert_eq!(code, 0, "{told}");
}

/// Variables that rbuild sets for others or only passes on, and what is none in spite of its name.
const NOT_READ: [&str; 40] = [
    // For git, and what git must not get.
    "GIT_ALLOW_PROTOCOL",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_INDEX_FILE",
    "GIT_NO_LAZY_FETCH",
    "GIT_OBJECT_DIRECTORY",
    "GIT_OPTIONAL_LOCKS",
    "GIT_WORK_TREE",
    "GIT_ASKPASS",
    "GIT_ATTR_NOSYSTEM",
    "GIT_CEILING_DIRECTORIES",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_KEY_",
    "GIT_CONFIG_KEY_0",
    "GIT_CONFIG_NOSYSTEM",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_VALUE_",
    "GIT_EXEC_PATH",
    "GIT_HTTP_",
    "GIT_LFS_SKIP_SMUDGE",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_PROXY_COMMAND",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_SSH_VARIANT",
    "GIT_SSL_",
    "GIT_TEMPLATE_DIR",
    "GIT_TERMINAL_PROMPT",
    "GIT_TRACE",
    // Of the compiler.
    "RBUILD_COMMIT",
    "RBUILD_LONG_VERSION",
    "RBUILD_TARGET",
    // Of bake files.
    "BAKE_CMD_CONTEXT",
    "BAKE_LOCAL_PLATFORM",
    // Docker tells its plugins.
    "DOCKER_CLI_PLUGIN_SOCKET",
    // Given to git, so that its messages are those that are known.
    "LANGUAGE",
    // How names begin.
    "BUILDKIT_",
    "GIT_",
];

const FAMILIES: [&str; 20] = [
    "BROWSER",
    "COSIGN_",
    "LANG",
    "LC_",
    "RBUILD_",
    "BUILDKIT_",
    "BUILDX_",
    "DOCKER_",
    "AWS_",
    "CONTAINERS_",
    "CONTAINERD_",
    "ACTIONS_",
    "GITHUB_",
    "CI_",
    "GIT_",
    "SSL_",
    "REGISTRY_",
    "KANIKO_",
    "BAKE_",
    "XDG_",
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        match path.is_dir() {
            true if name != "tests" => sources(&path, found),
            false if name.ends_with(".rs") && !name.contains("tests") => found.push(path),
            _ => {}
        }
    }
}

/// Texts of the program that look like the names of variables.
fn variables_of_the_program() -> BTreeSet<String> {
    let mut files = Vec::new();
    sources(&repository().join("src"), &mut files);
    let mut found = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap();
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            let quoted = line.split('"').skip(1).step_by(2);
            let is_name = |text: &&str| {
                text.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_'))
                    && FAMILIES.iter().any(|family| text.starts_with(family))
            };
            found.extend(quoted.filter(is_name).map(str::to_owned));
        }
    }
    found
}

#[test]
fn the_page_has_every_variable() {
    let page = read(PAGE);
    let told: BTreeSet<&str> = page.split('`').skip(1).step_by(2).collect();
    let found = variables_of_the_program();
    let missing: Vec<_> = found
        .iter()
        .filter(|name| !told.contains(name.as_str()) && !NOT_READ.contains(&name.as_str()))
        .collect();
    assert!(missing.is_empty(), "{PAGE} has not: {missing:?}");
    // That one is read by `ctr`, which rbuild calls.
    let is_variable =
        |text: &&&str| FAMILIES.iter().any(|family| text.starts_with(family)) && !text.contains('*');
    let unknown: Vec<_> = told
        .iter()
        .filter(is_variable)
        .filter(|name| !found.contains(**name) && **name != "CONTAINERD_NAMESPACE")
        .collect();
    assert!(unknown.is_empty(), "{PAGE} has variables that no source names: {unknown:?}");
}
