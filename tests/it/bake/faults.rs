//! Definitions that are wrong.

use crate::support::program::World;

/// What is said of a definition, and where.
fn told(file: &str, text: &str, args: &[&str]) -> String {
    let world = World::new();
    world.file(file, text);
    let ran =
        world.rbuild(["bake", "-f", file, "--print"].iter().chain(args)).any_status().any_stdout().run();
    assert_eq!(ran.status, Some(1), "{text}: {}", ran.stderr);
    ran.stderr
}

#[test]
fn faults_point_to_their_places() {
    for (text, message, place, help) in [
        ("target \"a\" {\n  args = { A = \n}\n", "broken HCL", "a.hcl:", ""),
        (
            "target \"a\" { context = \".\" target = \"x\" }\n",
            "broken HCL",
            "a.hcl:1:",
            "each stands on a line of its own",
        ),
        (
            "target \"a\" {\n  args = { A = TGA }\n}\nvariable \"TAG\" {}\n",
            "no variable `TGA`",
            "a.hcl:2:16",
            "did you mean `TAG`?",
        ),
        (
            "target \"a\" {\n  tags = [uper(\"x\")]\n}\n",
            "no function `uper`",
            "a.hcl:2:11",
            "did you mean `upper`?",
        ),
        (
            "target \"a\" { inherits = [\"b\"] }\ntarget \"b\" { inherits = [\"a\"] }\n",
            "inherits from itself: a → b → a",
            "",
            "take one of them out",
        ),
        ("target \"a\" { contexts = { x = \"target:a\" } }\n", "has itself as a context: a → a", "", ""),
        (
            "target \"a\" { contexts = { x = \"target:b\" } }\ntarget \"b\" { contexts = { x = \"target:a\" } }\n",
            "has itself as a context: a → b → a",
            "",
            "",
        ),
        (
            "variable \"A\" { default = B }\nvariable \"B\" { default = A }\ntarget \"a\" {}\n",
            "needs itself: ",
            "a.hcl:",
            "",
        ),
        (
            "function \"f\" {\n  params = []\n  result = g()\n}\nfunction \"g\" {\n  params = []\n  result = f()\n}\ntarget \"a\" {}\n",
            "needs itself: f → g → f",
            "a.hcl:3:12",
            "",
        ),
        ("target \"a\" {\n  tags = target.a.tags\n}\n", "needs itself", "a.hcl:2:10", ""),
        (
            "target \"a\" { tags = target.aa.tags }\ntarget \"ab\" {}\n",
            "no target `aa`",
            "a.hcl:1:",
            "did you mean",
        ),
        ("target \"a\" { tags = \"x\" }\n", "a list of strings is required, not a string", "a.hcl:1:", ""),
        ("target \"a\" { output = [{ dest = \"x\" }] }\n", "`type` is required", "a.hcl:1:", ""),
        (
            "variable \"A\" {\n  type = lst(string)\n}\ntarget \"a\" {}\n",
            "`lst` is no type",
            "a.hcl:2:10",
            "did you mean `list`?",
        ),
        (
            "variable \"A\" {\n  type = number\n  default = \"x\"\n}\ntarget \"a\" {}\n",
            "is not of its type",
            "a.hcl:3:13",
            "",
        ),
        (
            "variable \"A\" {\n  default = 5\n  validation {\n    condition = A > 9\n    error_message = \"A is ${A}\"\n  }\n}\ntarget \"a\" {}\n",
            "A is 5",
            "a.hcl:4:17",
            "",
        ),
        (
            "target \"a\" {\n  matrix = { v = [\"x\", \"y\"] }\n}\n",
            "makes two targets of the name `a`",
            "a.hcl:1:",
            "has to differ",
        ),
        (
            "target \"a\" {\n  matrix = { v = [\"x/y\"] }\n  name = v\n}\n",
            "is no name for a target",
            "a.hcl:3:10",
            "sanitize",
        ),
        ("target \"a\" { name = \"b\" }\n", "`name` is for targets with a `matrix`", "a.hcl:1:", ""),
        ("group \"g\" {}\ntarget \"a\" {}\n", "has no `targets`", "a.hcl:1:1", ""),
        ("A = 1\nA = 2\n", "found redefined attribute", "a.hcl:2:1", ""),
        ("target \"a\" { args = { A = 1 / 0 } }\n", "divided by zero", "a.hcl:1:", ""),
        ("target \"a\" { args = { A = [1][3] } }\n", "there is no element 3", "a.hcl:1:", ""),
    ] {
        let told = told("a.hcl", text, &["a"]);
        assert!(told.contains(message) && told.contains(place) && told.contains(help), "{text}\n{told}");
    }
}

#[test]
fn faults_of_json_and_compose_files_point_to_their_places() {
    for (file, text, message, place) in [
        ("a.json", "{\"target\": {\"a\": {\"args\": {\"A\": }}}}", "broken JSON", "a.json:1:"),
        ("a.json", "{\"target\": {\"a\": {\n\"tags\": [\"${NO}\"]}}}", "no variable `NO`", "a.json:2:13"),
        ("a.json", "{\"target\": {\"a\": 3}}", "an object of JSON is required", "a.json:1:"),
        ("a.yaml", "services:\n  a:\n    build: {context: [1\n", "broken YAML", "a.yaml:"),
        ("a.yaml", "services:\n  a:\n    build:\n      contxt: x\n", "`build` has no `contxt`", "a.yaml:4:7"),
        ("a.yaml", "services:\n  a:\n    build: ${X\n", "is not closed", "a.yaml:3:"),
        ("a.yaml", "services:\n  a:\n    build: ${X:?need x}\n", "need x", "a.yaml:3:"),
        ("a.yaml", "services:\n  a:\n    extends: b\n  b:\n    extends: a\n", "extends itself", "a.yaml:"),
        ("a.yaml", "services:\n  a:\n    extends: c\n", "no service `c`", "a.yaml:3:"),
        ("a.yaml", "services:\n  a:\n    build:\n      secrets: [s]\n", "no secret `s`", "a.yaml:4:"),
        ("a.yaml", "include: [a.yaml]\nservices: {}\n", "includes itself", "a.yaml:1:"),
        ("a.yaml", "services: {a: {build: .}, a: {build: x}}\n", "given twice", "a.yaml:1:"),
        ("a.yaml", "x: 1\n", "there are no services", ""),
    ] {
        let told = told(file, text, &["a"]);
        assert!(told.contains(message) && told.contains(place), "{text}\n{told}");
    }
}

#[test]
fn names_that_lead_nowhere() {
    let text = "target \"app\" {}\ngroup \"all\" { targets = [\"ap\"] }\n";
    for (args, message) in [
        (&["apq"][..], "did you mean `app`?"),
        (&["all"], "there is no target `ap`"),
        (&["x*"], "no target is like `x*`"),
        (&["app", "--set", "ap.tags=x"], "no target is like `ap`"),
        (&["app", "--set", "app.tag=x"], "did you mean `tags`?"),
        (&["app", "--set", "app.args=x"], "is followed by a name"),
        (&["app", "--set", "app.pull=maybe"], "no bool"),
    ] {
        let told = told("a.hcl", text, args);
        assert!(told.contains(message), "{args:?}\n{told}");
    }
    let world = World::new();
    let ran = world.rbuild(["bake"]).status(1).run();
    assert!(ran.stderr.contains("there is no bake file here"), "{}", ran.stderr);
    let ran = world.rbuild(["bake", "-f", "nothing.hcl"]).status(1).run();
    assert!(ran.stderr.contains("cannot read `nothing.hcl`"), "{}", ran.stderr);
    world.rbuild(["bake", "--var", "x"]).status(2).run();
}

#[test]
fn what_is_foreign_is_told_and_left_alone() {
    let world = World::new();
    world.file("docker-bake.hcl", "settings \"x\" {}\nvariable \"A\" {\n  sensitive = true\n}\ntarget \"default\" {\n  owner = \"me\"\n}\n");
    let ran = world.rbuild(["bake", "--print"]).any_stdout().remarks().run();
    for foreign in ["`settings`", "`sensitive`", "`owner`"] {
        assert!(ran.stderr.contains(foreign), "{}", ran.stderr);
    }
}

/// Definitions in use have them, and buildx says nothing: `cache_from` and a group's `targets` in a target are frequent.
#[test]
fn slips_are_told_and_change_nothing() {
    for (file, text, place, help) in [
        ("a.hcl", "target \"a\" {\n  cache_from = []\n}\n", "a.hcl:2:3", "did you mean `cache-from`?"),
        ("a.hcl", "target \"a\" {\n  targets = [\"b\"]\n}\n", "a.hcl:2:3", "did you mean `target`?"),
        ("a.hcl", "target \"a\" {\n  args {\n    A = 1\n  }\n}\n", "a.hcl:2:3", "write `args = { … }`"),
        ("a.hcl", "targte \"b\" {}\ntarget \"a\" {}\n", "a.hcl:1:1", "did you mean `target`?"),
        ("a.json", "{\"target\": {\"a\": {\"tagss\": []}}}", "a.json:1:", "did you mean `tags`?"),
        (
            "a.yaml",
            "services:\n  a:\n    build:\n      context: .\n      x-bake:\n        tagz: []\n",
            "a.yaml:6:9",
            "did you mean `tags`?",
        ),
    ] {
        let world = World::new();
        world.file(file, text);
        let ran = world.rbuild(["bake", "-f", file, "--print", "a"]).any_stdout().remarks().run();
        let told = &ran.stderr;
        assert!(told.contains("warning") && told.contains(place) && told.contains(help), "{text}\n{told}");
    }
}

/// No definition takes all day, all memory or the stack.
#[test]
fn evaluation_is_bounded() {
    let doubled: String = (1..60)
        .map(|n| format!("variable \"V{n}\" {{ default = \"${{V{}}}${{V{}}}\" }}\n", n - 1, n - 1))
        .collect();
    let chain: String =
        (0..5_000).map(|n| format!("variable \"V{n}\" {{ default = V{} }}\n", n + 1)).collect();
    let seed = "variable \"V0\" { default = \"0123456789\" }\n";
    let lists: String = (1..40)
        .map(|n| format!("variable \"L{n}\" {{ default = concat(L{0}, L{0}, L{0}) }}\n", n - 1))
        .collect();
    for (text, message) in [
        (format!("{seed}{doubled}target \"a\" {{ tags = [V59] }}\n"), ""),
        (format!("{chain}target \"a\" {{ tags = [V0] }}\n"), "within each other"),
        (format!("variable \"L0\" {{ default = [1, 2, 3] }}\n{lists}target \"a\" {{}}\n"), "too much work"),
        (
            "target \"a\" {\n  name = \"a${x}${y}${z}\"\n  matrix = { x = range(0, 100), y = range(0, 100), z = range(0, 100) }\n}\n".to_owned(),
            "more than 4096 targets",
        ),
        (format!("target \"a\" {{ tags = [{}1{}] }}\n", "[".repeat(5000), "]".repeat(5000)), "nest"),
        ("target \"a\" { tags = [format(\"%99999999d\", 1)] }\n".to_owned(), "wider than"),
        ("target \"a\" { tags = [bcrypt(\"x\", 31)] }\n".to_owned(), "the cost is between"),
    ] {
        let told = told("a.hcl", &text, &["a"]);
        assert!(told.contains(message), "{}\n{told}", &text[..200.min(text.len())]);
    }
}
