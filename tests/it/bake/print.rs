//! `--print` and `--list`. `testdata/bake` has definitions with what buildx prints of them.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::program::World;

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/bake");
    let entries = std::fs::read_dir(root).expect("the cases").map(|entry| entry.expect("a case").path());
    let mut cases: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    cases.sort();
    cases
}

/// In buildx the order of these follows from that of a map, which is none.
fn without_order(mut json: Value) -> Value {
    let sort = |list: Option<&mut Value>| {
        if let Some(Value::Array(list)) = list {
            list.sort_by_key(ToString::to_string);
        }
    };
    if let Some(Value::Object(groups)) = json.get_mut("group") {
        groups.values_mut().for_each(|group| sort(group.get_mut("targets")));
    }
    if let Some(Value::Object(targets)) = json.get_mut("target") {
        targets.values_mut().for_each(|target| sort(target.get_mut("ulimits")));
    }
    json
}

fn lines(case: &Path, name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(case.join(name)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn as_buildx_prints_it() {
    let (world, mut wrong) = (World::new(), Vec::new());
    let cases = cases();
    assert!(cases.len() >= 60, "{} cases", cases.len());
    for case in &cases {
        let expected = std::fs::read_to_string(case.join("expected.json")).expect("what buildx prints");
        let expected = without_order(serde_json::from_str(&expected).expect("JSON"));
        let folder = case.display().to_string();
        // The program begins in the folder of the case.
        let shell = ["env", "-C", &folder, "-i", "HOME=/home/user", "PATH=/usr/bin:/bin"];
        let shell: Vec<String> = shell.map(str::to_owned).into_iter().chain(lines(case, "env")).collect();
        let shell: Vec<&str> = shell.iter().map(String::as_str).collect();
        let args = ["bake".to_owned(), "--print".to_owned()].into_iter().chain(lines(case, "args"));
        let stdin = std::fs::read(case.join("in")).unwrap_or_default();
        let ran = world.through(&shell, args).stdin(stdin).remarks().any_status().any_stdout().run();
        match serde_json::from_str::<Value>(&ran.stdout).map(without_order) {
            Ok(printed) if printed == expected => {}
            Ok(printed) => wrong.push(format!("{folder}: {}", difference(&printed, &expected, ""))),
            Err(_) => wrong.push(format!("{folder}: {}", ran.stderr)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The first place in which both differ.
fn difference(ours: &Value, theirs: &Value, at: &str) -> String {
    if let (Value::Object(one), Value::Object(two)) = (ours, theirs) {
        for key in one.keys().chain(two.keys()) {
            let (one, two) = (one.get(key).unwrap_or(&Value::Null), two.get(key).unwrap_or(&Value::Null));
            if one != two {
                return difference(one, two, &format!("{at}.{key}"));
            }
        }
    }
    format!("{at}: {ours} is printed, and buildx prints {theirs}")
}

#[test]
fn what_is_printed_is_a_definition() {
    let world = World::new();
    world.file(
        "docker-bake.hcl",
        r#"
target "default" {
  args = { A = "$${B} %%{c} <&>", N = 1.5 }
  labels = { "a.b" = "x\ny" }
  output = ["type=oci,dest=x.tar"]
}
"#,
    );
    let first = world.rbuild(["bake", "--print"]).any_stdout().run().stdout;
    assert!(first.contains(r#""A": "$${B} %%{c} \u003c\u0026\u003e""#), "{first}");
    world.rbuild(["bake", "--print", "-f", "-"]).stdin(first.clone()).stdout(first).run();
}

#[test]
fn lists() {
    let world = World::new();
    world.file(
        "docker-bake.hcl",
        r#"
variable "TAG" {
  default = "1"
  description = "what it is called"
}
variable "LIST" {
  type = list(string)
  default = ["a"]
}
variable "NONE" { type = string }
target "app" { description = "the app" }
target "_base" {}
group "default" { targets = ["app"] }
"#,
    );
    let targets = "TARGET\tDESCRIPTION\napp\tthe app\ndefault\tapp\n";
    world.rbuild(["bake", "--list", "targets"]).stdout(targets).run();
    world.rbuild(["bake", "--list-targets"]).stdout(targets).run();
    let variables = "VARIABLE\tTYPE\t\tVALUE\tDESCRIPTION\nLIST\t\tlist of string\t[\"a\"]\t\nNONE\t\tstring\t\t<null>\t\nTAG\t\t\t\t1\twhat it is called\n";
    world.rbuild(["bake", "--list=type=variables"]).stdout(variables).run();
    let json = world.rbuild(["bake", "--list", "type=targets,format=json"]).any_stdout().run().stdout;
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json[1], serde_json::json!({"name": "default", "description": "app", "group": true}));
    world.rbuild(["bake", "--list", "x"]).status(2).run();
}
