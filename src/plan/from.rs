//! FROM: what a stage is built on, and the checks of that line.

use crate::dockerfile::checks::{self, Rule, message};
use crate::dockerfile::syntax::{Dockerfile, From, Word};
use crate::dockerfile::words::{self, Expanded};
use crate::oci::{Platform, Reference};
use crate::report::Diagnostic;
use crate::text::closest;

use super::options::Options;
use super::origin::{self, Name, Origin, Usage};
use super::place::{Fault, Place, with_suggestion};
use super::scope::Globals;
use super::stage::{Stage, Stages};

/// Resolves the FROM of stage `index`; `earlier` are the stages above it.
pub(super) fn resolve(
    file: &Dockerfile,
    index: usize,
    earlier: &Stages<'_>,
    globals: &Globals,
    warnings: &mut Vec<Diagnostic>,
) -> Result<Stage, Fault> {
    let from = &file.stages[index].from;
    let mut line = Line { from, place: &earlier.place, globals, warnings };
    line.check_default();
    let base_name = line.image()?;
    let platform = line.platform()?;
    let name = from.name.as_ref().map(|name| name.text.to_ascii_lowercase());
    let context = name.as_ref().and_then(|name| replacement(name, platform.as_ref(), from, earlier));
    let replaced = context.is_some();
    let base = match context {
        Some(origin) => origin,
        None => built_on(&base_name, platform.as_ref(), from, earlier)
            .map_err(|fault| with_missing_values(fault, from, earlier, globals))?,
    };
    let label = name.clone().unwrap_or_else(|| format!("stage-{index}"));
    Ok(Stage {
        from: from.clone(),
        name,
        label,
        base,
        base_name,
        replaced,
        platform,
        items: Vec::new(),
        fired: false,
    })
}

/// Says which variables of a faulty image name have no value.
fn with_missing_values(mut fault: Fault, from: &From, earlier: &Stages<'_>, globals: &Globals) -> Fault {
    let expanded = words::expand(&from.image.text, earlier.place.escape, &globals.env);
    for name in expanded.map(|expanded| expanded.unset).unwrap_or_default() {
        fault.help.push(format!(
            "`{name}` has no value here: write `ARG {name}=…` above the first FROM, or give `--build-arg {name}=…`"
        ));
    }
    fault
}

/// The named context that stands in the place of a stage of this name.
fn replacement(name: &str, platform: Option<&Platform>, from: &From, earlier: &Stages<'_>) -> Option<Origin> {
    let options: &Options = earlier.options();
    let platform = platform.unwrap_or(&options.platform);
    let (key, source) = origin::context(name, platform, options)?;
    if let Some(stage) = origin::stage_alias(name, platform, options) {
        return earlier.named(stage).map(Origin::Stage);
    }
    let own: Reference = name.parse().ok()?;
    let name = Name { text: name, span: from.image.span, platform, usage: Usage::Base };
    Some(origin::of_context(key, source, name, &own))
}

/// A stage of exactly this name, else what the name means outside. Other than in `COPY --from`, case
/// counts here, as in BuildKit.
fn built_on(
    name: &str,
    platform: Option<&Platform>,
    from: &From,
    earlier: &Stages<'_>,
) -> Result<Origin, Fault> {
    let options = earlier.options();
    let platform = platform.unwrap_or(&options.platform);
    let stage = earlier.named(name).filter(|_| !name.bytes().any(|byte| byte.is_ascii_uppercase()));
    if let Some(index) = stage {
        return Ok(Origin::Stage(index));
    }
    if let Some(index) = origin::stage_alias(name, platform, options).and_then(|stage| earlier.named(stage)) {
        return Ok(Origin::Stage(index));
    }
    let wanted = Name { text: name, span: from.image.span, platform, usage: Usage::Base };
    origin::outside(wanted, options, &earlier.place).map_err(|mut fault| {
        if earlier.named(name).is_some() {
            fault.help.push(format!("FROM minds the case of stage names: `{}`", name.to_ascii_lowercase()));
        }
        fault
    })
}

/// One FROM line while it is evaluated.
struct Line<'a> {
    from: &'a From,
    place: &'a Place,
    globals: &'a Globals,
    warnings: &'a mut Vec<Diagnostic>,
}

impl Line<'_> {
    fn warn(&mut self, rule: &Rule, word: &Word, message: String) {
        self.warnings.push(self.place.warning(rule, word.span, message));
    }

    fn expand(&mut self, word: &Word) -> Result<Expanded, Fault> {
        let expanded = words::expand(&word.text, self.place.escape, &self.globals.env)
            .map_err(|error| self.place.unexpandable(word.span, &error))?;
        for name in expanded.unset.iter().filter(|name| !self.globals.declared.contains(name)) {
            let near = closest(name, self.globals_names());
            let message = message::undefined_arg_in_from(name, near);
            self.warn(&checks::UNDEFINED_ARG_IN_FROM, word, message);
        }
        Ok(expanded)
    }

    fn globals_names(&self) -> impl Iterator<Item = &str> {
        let set = self.globals.env.variables().iter().map(|(name, _)| name.as_str());
        set.chain(self.globals.declared.iter().map(String::as_str))
    }

    fn image(&mut self) -> Result<String, Fault> {
        let word = &self.from.image;
        let expanded = self.expand(word)?;
        if !expanded.text.is_empty() {
            return Ok(expanded.text);
        }
        let mut fault =
            self.place.fault(word.span, format!("base name (`{}`) should not be blank", word.text));
        for name in &expanded.unset {
            fault.help.push(format!(
                "give it a value: `ARG {name}=…` above the first FROM, or --build-arg {name}=…"
            ));
        }
        Err(fault)
    }

    fn platform(&mut self) -> Result<Option<Platform>, Fault> {
        let Some(word) = &self.from.platform else { return Ok(None) };
        let expanded = self.expand(word)?;
        self.check_constant(word, &expanded);
        let suggest = |fault| {
            let names: Vec<&str> = self.globals_names().collect();
            expanded.unset.iter().fold(fault, |fault, name| with_suggestion(fault, name, names.clone()))
        };
        if expanded.text.is_empty() {
            let message = format!("empty platform value from expression `{}`", word.text);
            return Err(suggest(self.place.fault(word.span, message)));
        }
        let parsed = expanded.text.parse::<Platform>();
        parsed.map(Some).map_err(|error| {
            suggest(self.place.fault(word.span, format!("failed to parse platform: {error}")))
        })
    }

    /// FromPlatformFlagConstDisallowed: a platform in plain words, unless the stage is named after it.
    fn check_constant(&mut self, word: &Word, expanded: &Expanded) {
        if !expanded.set.is_empty() || !expanded.unset.is_empty() {
            return;
        }
        let Ok(platform) = expanded.text.parse::<Platform>() else { return };
        let stage = self.from.name.as_ref().map(|name| name.text.to_ascii_lowercase()).unwrap_or_default();
        if stage.contains(&platform.os) || stage.contains(&platform.architecture) {
            return;
        }
        let message = message::from_platform_flag_const_disallowed(&expanded.text);
        self.warn(&checks::FROM_PLATFORM_FLAG_CONST_DISALLOWED, word, message);
    }

    /// InvalidDefaultArgInFrom: without build arguments, the line names no image.
    fn check_default(&mut self) {
        let Some(defaults) = &self.globals.defaults else { return };
        let word = &self.from.image;
        let Ok(expanded) = words::expand(&word.text, self.place.escape, defaults) else { return };
        if expanded.text.parse::<Reference>().is_err() {
            let message = message::invalid_default_arg_in_from(&word.text);
            self.warn(&checks::INVALID_DEFAULT_ARG_IN_FROM, word, message);
        }
    }
}
