//! For which platforms the base images of a build are.

use super::inputs::Inputs;
use super::{Request, diagnose_store};
use crate::exec::Stop;
use crate::image::{Content, Image, StoredPlatform, document};
use crate::oci::{Platform, Reference};
use crate::plan::{self, graph::BaseOrigin};
use crate::report::{Diagnostic, Events};
use crate::solve::Services;

/// The platforms that all of them are for, in the order of the first; that of this machine, where there are none.
pub fn of_bases(request: &Request) -> Result<Vec<Platform>, Vec<Diagnostic>> {
    let services = request.services(&Stop::default(), &Events::silent())?;
    let inputs = Inputs::open(request, &services)?;
    let mut common: Option<Vec<Platform>> = None;
    for base in plan::bases(inputs.dockerfile(), &request.options)? {
        let BaseOrigin::Image(name) = &base.origin else {
            let error = Diagnostic::error(format!("`{}` is no image of a registry", base.name));
            return Err(vec![error.help("name the platforms with `--platform`")]);
        };
        let offered = offered(&services, name)?;
        common = Some(match common {
            None => offered,
            Some(common) => common.into_iter().filter(|platform| offered.contains(platform)).collect(),
        });
    }
    match common {
        None => Ok(vec![Platform::host()]),
        Some(common) if common.is_empty() => {
            let error = Diagnostic::error("no platform has all of the base images");
            Err(vec![error.help("`rbuild inspect --raw docker://NAME` shows what one is for")])
        }
        Some(common) => Ok(common),
    }
}

/// What an image is for: as the store has it, else as its registry does.
fn offered(services: &Services, name: &Reference) -> Result<Vec<Platform>, Vec<Diagnostic>> {
    let fail = |error: &crate::store::Error| vec![diagnose_store(error)];
    if let Some(target) = services.store.tag(name).map_err(|e| fail(&e))? {
        let image = Image::read(&services.store, &target).map_err(|e| fail(&e))?;
        return Ok(image
            .platforms
            .iter()
            .filter_map(StoredPlatform::platform)
            .map(Platform::normalised)
            .collect());
    }
    let unknown =
        |why: String| vec![Diagnostic::error(format!("cannot tell the platforms of `{name}`: {why}"))];
    let bytes = services.registry.manifest(name).map_err(|error| unknown(error.to_string()))?;
    let bytes = bytes.ok_or_else(|| unknown("its registry does not have it".to_owned()))?;
    let document = document::parse(&bytes, None).map_err(|fault| unknown(fault.to_string()))?;
    match document.content {
        Content::Index(index) => {
            let platforms = index.manifests.into_iter().filter_map(|manifest| manifest.platform);
            let known = platforms.filter(|platform| platform.os != "unknown");
            Ok(known.map(Platform::normalised).collect())
        }
        Content::Manifest(manifest) => {
            let config =
                services.registry.read_blob(name, &manifest.config).map_err(|e| unknown(e.to_string()))?;
            let config =
                document::parse_config(&config, &manifest.config).map_err(|f| unknown(f.to_string()))?;
            Ok(vec![config.platform().normalised()])
        }
    }
}
