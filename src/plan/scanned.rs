//! What an SBOM generator is to see beside the image: `BUILDKIT_SBOM_SCAN_CONTEXT` and `BUILDKIT_SBOM_SCAN_STAGE` (moby/buildkit,
//! `docs/attestations/sbom.md`). Both are arguments of stages, or of the file for all stages.

use std::collections::BTreeSet;

use super::options::Options;
use super::scope::NEVER_IN_ENVIRONMENT;
use crate::dockerfile::syntax::{ArgDeclaration, Dockerfile, Instruction, InstructionKind};
use crate::text::boolean;

/// What is to be scanned beside the result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scanned {
    /// The build context.
    pub context: bool,
    /// Stages by their number in the file, with what they are called.
    pub stages: Vec<(usize, String)>,
}

/// What the file and the arguments ask for, of those stages that are `needed` for the stage of number `target`.
pub fn scanned(file: &Dockerfile, options: &Options, needed: &BTreeSet<usize>, target: usize) -> Scanned {
    let [context, stage] = NEVER_IN_ENVIRONMENT;
    let others =
        needed.iter().filter(|number| **number != target && is_wanted(file, options, stage, **number));
    Scanned {
        context: is_wanted(file, options, context, target),
        stages: others.map(|number| (*number, name(file, *number))).collect(),
    }
}

/// As BuildKit calls a stage.
fn name(file: &Dockerfile, number: usize) -> String {
    let name = file.stages.get(number).and_then(|stage| stage.from.name.as_ref());
    name.map_or_else(|| format!("stage-{number}"), |name| name.text.to_ascii_lowercase())
}

/// Whether an argument is on for a stage: what is given counts only where the file declares it.
fn is_wanted(file: &Dockerfile, options: &Options, argument: &str, number: usize) -> bool {
    let mut declared = declarations(&file.global_args);
    let mut lineage = vec![number];
    while let Some(parent) = lineage.last().and_then(|number| parent(file, *number)) {
        lineage.push(parent);
    }
    for number in lineage.iter().rev() {
        declared.extend(declarations(&file.stages[*number].instructions));
    }
    let given = options.build_args.iter().rev().find(|(name, _)| name == argument);
    let given = given.and_then(|(_, value)| value.as_deref());
    let mut found = declared.into_iter().filter(|declared| declared.name.text == argument).peekable();
    if found.peek().is_none() {
        return false;
    }
    let default = found.filter_map(|declared| declared.default.as_ref()).next_back();
    let default = default.map(|word| word.text.trim_matches(['"', '\'']));
    given.or(default).is_some_and(|value| is_on(value, &name(file, number)))
}

fn declarations(instructions: &[Instruction]) -> Vec<&ArgDeclaration> {
    let mut found = Vec::new();
    for instruction in instructions {
        if let InstructionKind::Arg(declared) = &instruction.kind {
            found.extend(declared);
        }
    }
    found
}

/// The stage that a stage stands on.
fn parent(file: &Dockerfile, number: usize) -> Option<usize> {
    let image = &file.stages[number].from.image.text;
    file.stages[..number].iter().rposition(|earlier| {
        earlier.from.name.as_ref().is_some_and(|name| name.text.eq_ignore_ascii_case(image))
    })
}

/// True, or a list that has the stage.
fn is_on(value: &str, stage: &str) -> bool {
    boolean(value).unwrap_or_else(|| value.split(',').any(|name| name.trim().eq_ignore_ascii_case(stage)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use super::*;
    use crate::dockerfile;
    use crate::report::Source;

    fn found(text: &str, given: &[(&str, &str)]) -> String {
        let source = Source { name: "Dockerfile".to_owned(), text: text.to_owned() };
        let file = dockerfile::parse(&Arc::new(source)).unwrap();
        let build_args = given.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())));
        let options = Options { build_args: build_args.collect(), ..Options::default() };
        let last = file.stages.len() - 1;
        let scanned = scanned(&file, &options, &(0..=last).collect(), last);
        let stages: Vec<String> =
            scanned.stages.iter().map(|(number, name)| format!("{number}={name}")).collect();
        format!("{} {}", scanned.context, stages.join(" ")).trim_end().to_owned()
    }

    #[test]
    fn arguments_of_stages_and_of_the_file() {
        const STAGE: &str = "BUILDKIT_SBOM_SCAN_STAGE";
        const CONTEXT: &str = "BUILDKIT_SBOM_SCAN_CONTEXT";
        let in_stage = format!("FROM a AS Build\nARG {STAGE}=true\nFROM a\nFROM scratch\n");
        assert_eq!(found(&in_stage, &[]), "false 0=build");
        assert_eq!(found(&in_stage, &[(STAGE, "false")]), "false");
        // What is declared nowhere cannot be switched on.
        assert_eq!(found("FROM a\nFROM scratch\n", &[(STAGE, "true"), (CONTEXT, "true")]), "false");
        let global =
            format!("ARG {STAGE}=x,build\nARG {CONTEXT}\nFROM a AS build\nFROM a\nFROM scratch AS x\n");
        assert_eq!(found(&global, &[]), "false 0=build");
        assert_eq!(found(&global, &[(STAGE, "1"), (CONTEXT, "x")]), "true 0=build 1=stage-1");
        // A stage has the arguments of the one that it stands on.
        let inherited = format!(
            "FROM a AS one\nARG {STAGE}=true\nFROM one AS two\nFROM scratch\nARG {CONTEXT}=\"true\"\n"
        );
        assert_eq!(found(&inherited, &[]), "true 0=one 1=two");
    }
}
