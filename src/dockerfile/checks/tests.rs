#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::*;
use crate::dockerfile::parse;

fn file(text: &str) -> Dockerfile {
    parse(&Arc::new(Source { name: "Dockerfile".to_owned(), text: text.to_owned() })).unwrap()
}

/// `line:column Rule: message` of what remains after filtering.
fn findings(text: &str) -> Vec<String> {
    let file = file(text);
    let filtered = filter(&file, check(&file));
    let mut lines: Vec<String> = filtered.findings.iter().map(line).collect();
    lines.extend(filtered.error.iter().map(|error| format!("error: {}", error.message)));
    lines
}

fn line(finding: &Diagnostic) -> String {
    let (line, column) = finding.source.as_ref().unwrap().line_column(finding.labels[0].span.start);
    format!("{line}:{column} {}: {}", finding.code.unwrap(), finding.message)
}

#[test]
fn every_rule_has_its_own_name() {
    let mut names: Vec<&str> = RULES.iter().map(|rule| rule.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 22);
    assert_eq!(Rule::named("stagenamecasing"), Some(&STAGE_NAME_CASING));
}

#[test]
fn findings_of_single_rules() {
    for (text, expected) in [
        ("FROM a\nWORKDIR /x\nENV A=b\nCMD [\"x\"]\n", &[][..]),
        ("FROM a AS Base", &["1:11 StageNameCasing: Stage name 'Base' should be lowercase"]),
        ("FROM a as b", &["1:8 FromAsCasing: 'as' and 'FROM' keywords' casing do not match"]),
        ("from a AS b", &["1:8 FromAsCasing: 'AS' and 'from' keywords' casing do not match"]),
        ("FROM a\nRUN a \\\n\n b", &["4:1 NoEmptyContinuation: Empty continuation line"]),
        (
            "FROM a\nrun b",
            &[
                "2:1 ConsistentInstructionCasing: Command 'run' should match the case of the command majority (uppercase)",
            ],
        ),
        (
            "from a\nrun b\nRun c",
            &[
                "3:1 ConsistentInstructionCasing: Command 'Run' should match the case of the command majority (lowercase)",
            ],
        ),
        (
            "FROM a AS b\nFROM a AS b",
            &["2:11 DuplicateStageName: Duplicate stage name \"b\", stage names should be unique"],
        ),
        (
            "FROM a AS context",
            &[
                "1:11 ReservedStageName: Stage name should not use the same name as reserved stage \"context\"",
            ],
        ),
        (
            "FROM a\nCMD x",
            &[
                "2:1 JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
            ],
        ),
        (
            "FROM a\nENTRYPOINT ['x']",
            &[
                "2:1 JSONArgsRecommended: JSON arguments recommended for ENTRYPOINT to prevent unintended behavior related to OS signals",
            ],
        ),
        ("FROM a AS b\nSHELL [\"x\"]\nFROM b\nCMD x", &[]),
        (
            "FROM a\nMAINTAINER me",
            &["2:1 MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label"],
        ),
        (
            "FROM a\nWORKDIR x\nWORKDIR y",
            &[
                "2:9 WorkdirRelativePath: Relative workdir \"x\" can have unexpected results if the base image changes",
            ],
        ),
        ("FROM a AS b\nWORKDIR /x\nFROM B\nWORKDIR y", &[]),
        ("FROM a\nWORKDIR $x", &[]),
        (
            "FROM a\nCMD [\"a\"]\nCMD [\"b\"]",
            &[
                "2:1 MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage because only the last one will be used",
            ],
        ),
        (
            "FROM a\nENV a b c",
            &[
                "2:5 LegacyKeyValueFormat: \"ENV key=value\" should be used instead of legacy \"ENV key value\" format",
            ],
        ),
        (
            "FROM --platform=${TARGETPLATFORM} a",
            &[
                "1:17 RedundantTargetPlatform: Setting platform to predefined ${TARGETPLATFORM} in FROM is redundant as this is the default behavior",
            ],
        ),
        ("FROM --platform=$BUILDPLATFORM a\nFROM --platform=$TARGETPLATFORM$X a", &[]),
        (
            "FROM a\nARG API_KEY",
            &[
                "2:5 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG \"API_KEY\")",
            ],
        ),
        (
            "FROM a\nEXPOSE 80/TCP 1:2 [::1]:3:4/udp $X:5",
            &[
                "2:8 ExposeProtoCasing: Defined protocol '80/TCP' in EXPOSE instruction should be lowercase",
                "2:15 ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '1:2'",
                "2:19 ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '[::1]:3:4/udp'",
            ],
        ),
    ] {
        assert_eq!(findings(text), expected, "{text}");
    }
}

#[test]
fn directives_switch_rules() {
    for (text, expected) in [
        ("# check=skip=StageNameCasing\nFROM a AS B", &[][..]),
        ("# check=skip=all\nFROM a AS B\nCMD x", &[]),
        (
            "# check=skip=Other, StageNameCasing\nFROM a AS B",
            &["2:11 StageNameCasing: Stage name 'B' should be lowercase"],
        ),
        (
            "# check=skip=Other,StageNameCasing;error=true\nFROM a AS B\nMAINTAINER x",
            &[
                "3:1 MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label",
                "error: lint violation found for rules: MaintainerDeprecated",
            ],
        ),
        ("# check=error=true\nFROM a", &[]),
        (
            "# check=experimental=all\n# not b\nFROM a AS b",
            &[
                "3:1 InvalidDefinitionDescription: Comment for FROM should follow the format: `# b <description>`",
            ],
        ),
        ("# check=experimental=all\n# b is this\nFROM a AS b", &[]),
        ("# not b\nFROM a AS b", &[]),
        (
            "FROM a\n# check=skip=SecretsUsedInArgOrEnv\nARG KEY\nARG TOKEN",
            &[
                "4:5 SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG \"TOKEN\")",
            ],
        ),
    ] {
        assert_eq!(findings(text), expected, "{text}");
    }
}

#[test]
fn unreached_stages_are_judged_by_their_writing_only() {
    let file = file("FROM a AS B\nCMD x\nFROM c\nCMD y");
    let found: Vec<String> = check_reached(&file, &|stage| stage == 1).iter().map(line).collect();
    assert_eq!(found.len(), 2);
    assert!(found[0].starts_with("1:11 StageNameCasing"), "{found:?}");
    assert!(found[1].starts_with("4:1 JSONArgsRecommended"), "{found:?}");
}
