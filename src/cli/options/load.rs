//! `--load`, and what is loaded without it.

use super::request::bad;
use crate::cli::Failure;
use crate::cli::face::Face;
use crate::export::{Engine, LoadInto, Output, Target};
use crate::text::boolean;

/// Adds to `outputs` what `--load` says. As docker's builder rbuild leaves every image in docker, if there is one, unless it is told
/// where else.
pub(super) fn add(
    given: Option<&str>,
    face: Face,
    is_pushed: bool,
    outputs: &mut Vec<Output>,
) -> Result<(), Failure> {
    let wanted = match (given.map(|text| (text, boolean(text))), face) {
        (None, Face::Docker) if outputs.is_empty() && !is_pushed => vec![LoadInto::DockerIfThere],
        (None | Some((_, Some(false))), _) => Vec::new(),
        (Some((_, Some(true))), Face::Docker) => vec![LoadInto::Engine(Engine::DOCKER)],
        (Some((_, Some(true))), Face::Own) => vec![LoadInto::WhatIsThere],
        (Some((text, None)), _) => {
            let engine = |name: &str| {
                name.parse().map(LoadInto::Engine).map_err(|reason: String| bad("--load", text, &reason))
            };
            text.split(',').map(engine).collect::<Result<_, _>>()?
        }
    };
    for into in wanted {
        let target = Target::Load(into);
        if !outputs.iter().any(|output| output.target == target) {
            outputs.push(Output::new(target));
        }
    }
    // Who asks docker for an image looks for it there.
    if face == Face::Docker {
        outputs.iter_mut().filter(|output| output.loads()).for_each(|output| output.stored = false);
    }
    Ok(())
}
