//! `rbuild plan` of a build with caches: what is here, what is elsewhere, and what would move.

use std::process::Command;

use super::Project;

fn planned(project: &Project, machine: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rbuild"));
    command.current_dir(project.path().join("context")).arg("--root").arg(project.store(machine));
    let output = command.arg("plan").args(arguments).arg(".").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_plan_tells_what_would_come_from_where() {
    let project = Project::new();
    let folder = project.path().join("cache").display().to_string();
    let (from, to) =
        (format!("--cache-from=type=local,src={folder}"), format!("--cache-to=type=local,dest={folder}"));
    project.built("one", &[&to]);
    // Pushed, nothing of it is needed here.
    let text = planned(&project, "two", &[&from, "--push", "-t", "localhost:1/app:1"]);
    assert!(text.contains(&format!(" at {folder}\n")) && text.contains(" remote [base 2/4] COPY"), "{text}");
    assert!(text.ends_with("\n8 steps cached (8 remote), 0 would run\n"), "{text}");
    // Kept, what the result stands on is; and a command that runs needs what it stands on.
    let text = planned(&project, "two", &[&from]);
    assert!(text.contains(&format!("\n6 layers would come from {folder} (")), "{text}");
    project.write("a", "changed\n");
    let text = planned(&project, "two", &[&from, "--push", "-t", "localhost:1/app:1"]);
    assert!(text.contains("\n3 steps cached (3 remote), 5 would run\n"), "{text}");
    assert!(text.contains(&format!("\n3 layers would come from {folder} (")), "{text}");
    let json = planned(&project, "two", &[&from, "--format=json"]);
    let plan: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&plan["fetches"][0]["from"], &plan["fetches"][0]["layers"]),
        (&folder.as_str().into(), &3.into())
    );
    assert!(plan["fetches"][0]["bytes"].as_u64() > Some(1_000_000), "{json}");
    let cached = plan["steps"].as_array().unwrap().iter().find(|step| step["outlook"] == "cached").unwrap();
    assert_eq!(cached["from"], *folder);
    // It changed nothing, and what is here is not elsewhere.
    let text = planned(&project, "one", &[&from]);
    assert!(!text.contains("remote") && !text.contains("would come"), "{text}");
}
