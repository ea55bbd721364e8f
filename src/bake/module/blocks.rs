//! Groups and targets: their names, the variants that a matrix makes of them, and the values of their fields.

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::body::Block;
use super::super::convert::{convert, text_of};
use super::super::eval::Frame;
use super::super::fault::{Place, Result, did_you_mean, with_help};
use super::super::limits::VARIANTS;
use super::super::target::{Bases, FIELDS, Target, field_type};
use super::super::value::{Type, Value};
use super::super::{Group, folder_of};
use super::{Module, context_of_another, fields_of};
use crate::report::Diagnostic;

/// What a matrix made of a block: a name, and what the names of the matrix stand for.
pub(super) struct Variant {
    name: String,
    frame: Frame<'static>,
}

/// All variants by the numbers of their blocks, and where each name leads.
#[derive(Default)]
pub(super) struct Variants {
    of_blocks: Vec<std::rc::Rc<Vec<Variant>>>,
    by_name: BTreeMap<(String, String), (usize, usize)>,
}

/// Values of fields, by block, variant and field; `None` while they are being found.
pub(super) type Fields = BTreeMap<(usize, usize, String), Option<Found>>;

/// The value of a field.
#[derive(Clone)]
pub(super) struct Found {
    /// What its expression gave.
    given: Value,
    /// What other expressions see.
    shown: Value,
}

/// What the blocks come to.
pub(in super::super) struct Blocks {
    pub(in super::super) groups: Vec<Group>,
    pub(in super::super) targets: Vec<Target>,
}

impl Module {
    /// Evaluates all blocks. Those of one name are laid over each other, in the order of the files.
    pub(in super::super) fn blocks(&self, known: Blocks, counts_from_files: bool) -> Result<Blocks> {
        let Blocks { mut groups, mut targets } = known;
        let mut named: Vec<(String, Vec<String>)> = Vec::new();
        for (at, block) in self.blocks.iter().enumerate() {
            let variants = self.variants_of(at, block)?;
            let names: Vec<String> = variants.iter().map(|variant| variant.name.clone()).collect();
            let label = block.labels.first().cloned().unwrap_or_default();
            match named.iter_mut().find(|(known, _)| *known == label).filter(|_| block.kind == "target") {
                Some((_, all)) => all.extend(names),
                None if block.kind == "target" => named.push((label, names)),
                None => {}
            }
        }
        for (at, block) in self.blocks.iter().enumerate() {
            self.check_block(block);
            let variants = self.variants_of(at, block)?;
            for (number, variant) in variants.iter().enumerate() {
                if block.kind == "group" {
                    let group = self.group(at, block, variant)?;
                    match groups.iter_mut().find(|known| known.name == group.name) {
                        // Of groups the last one holds.
                        Some(known) => *known = group,
                        None => groups.push(group),
                    }
                    continue;
                }
                let target = self.target(at, number, block, variant, counts_from_files)?;
                match targets.iter_mut().find(|known| known.name == target.name) {
                    Some(known) => known.merge(&target),
                    None => targets.push(target),
                }
            }
        }
        // The name of a block with a matrix stands for all its variants.
        for (label, mut names) in named {
            let mut seen = std::collections::BTreeSet::new();
            names.retain(|name| seen.insert(name.clone()));
            if names != [label.clone()] {
                groups.push(Group { name: label, description: String::new(), targets: names });
            }
        }
        Ok(Blocks { groups, targets })
    }

    fn check_block(&self, block: &Block) {
        let known = fields_of(&block.kind);
        for attribute in &block.body.attributes {
            let name = attribute.name.as_str();
            let is_known = (known.contains(&name) && name != "name") || matches!(name, "matrix" | "name");
            if !is_known {
                let what = format!("field of a {}", block.kind);
                self.unknown(block, name, attribute.name_span, &what, known);
            }
        }
        for inner in &block.body.blocks {
            // `args { … }` instead of `args = { … }` is a frequent slip.
            if known.contains(&inner.kind.as_str()) {
                let message = format!("`{}` is a field, no block", inner.kind);
                let warning = Diagnostic::warning("BakeUnknown", message);
                let warning = warning.at(&inner.source, inner.head, "it changes nothing");
                let help = format!("write `{} = {{ … }}`", inner.kind);
                self.warnings.borrow_mut().push(warning.help(help));
            } else {
                self.unknown(inner, &inner.kind, inner.head, &format!("block in a {}", block.kind), known);
            }
        }
    }

    fn variants_of(&self, at: usize, block: &Block) -> Result<std::rc::Rc<Vec<Variant>>> {
        if let Some(known) = self.variants.borrow().of_blocks.get(at) {
            return Ok(std::rc::Rc::clone(known));
        }
        let variants = std::rc::Rc::new(self.make_variants(block)?);
        let mut all = self.variants.borrow_mut();
        for (number, variant) in variants.iter().enumerate() {
            let key = (block.kind.clone(), variant.name.clone());
            all.by_name.insert(key, (at, number));
        }
        all.of_blocks.push(std::rc::Rc::clone(&variants));
        let count: usize = all.of_blocks.iter().map(|variants| variants.len()).sum();
        if count > VARIANTS {
            let message = format!("the matrices of this definition make more than {VARIANTS} targets");
            return Err(Box::new(Diagnostic::error(message).at(&block.source, block.head, "with this one")));
        }
        Ok(variants)
    }

    fn make_variants(&self, block: &Block) -> Result<Vec<Variant>> {
        let label = block.labels.first().cloned().unwrap_or_default();
        let (matrix, name) = (block.body.attribute("matrix"), block.body.attribute("name"));
        if block.kind == "group"
            && let Some(attribute) = matrix.or(name)
        {
            return Err(attribute.value.fault(format!("a group has no `{}`", attribute.name), "here"));
        }
        let frames = match matrix {
            None => vec![BTreeMap::new()],
            Some(matrix) => self.matrix(&matrix.value)?,
        };
        let mut variants: Vec<Variant> = Vec::with_capacity(frames.len());
        for names in frames {
            let frame = Frame::of(names);
            let name = match name {
                None => label.clone(),
                Some(name) if matrix.is_none() => {
                    let fault = name.value.fault("`name` is for targets with a `matrix`", "here");
                    return Err(Box::new(fault.help("a target's name is in quotes after `target`")));
                }
                Some(name) => {
                    let value = self.evaluate(&name.value, &frame)?;
                    text_of(&value).map_err(|why| name.value.fault(why, value.kind()))?.to_string()
                }
            };
            let place = name_place(block, self.name_of(block));
            check_name(&name, &place)?;
            if variants.iter().any(|known| known.name == name) {
                let message = format!("the matrix makes two targets of the name `{name}`");
                let fault = place.fault(None, message, "not unique");
                return Err(Box::new(fault.help("`name` has to differ with every value of the matrix")));
            }
            variants.push(Variant { name, frame });
        }
        Ok(variants)
    }

    fn name_of<'b>(&self, block: &'b Block) -> Option<&'b super::super::body::Expr> {
        block.body.attribute("name").map(|name| &name.value)
    }

    /// All combinations of the values of a matrix; those of the first name vary fastest.
    fn matrix(&self, expr: &super::super::body::Expr) -> Result<Vec<BTreeMap<String, Value>>> {
        let value = self.evaluate(expr, &Frame::TOP)?;
        let entries =
            value.entries().ok_or_else(|| expr.fault("a matrix is a map of lists", value.kind()))?;
        let mut frames: Vec<BTreeMap<String, Value>> = vec![BTreeMap::new()];
        for (name, values) in entries {
            let values: Vec<Value> = match (values.elements(), values.entries()) {
                (Some(elements), _) => elements.to_vec(),
                (None, Some(entries)) => entries.values().cloned().collect(),
                (None, None) => {
                    let message = format!("`{name}` in a matrix is a list, not {}", values.kind());
                    return Err(expr.fault(message, "in this matrix"));
                }
            };
            if frames.len().saturating_mul(values.len()) > VARIANTS {
                let message = format!("this matrix makes more than {VARIANTS} targets");
                return Err(expr.fault(message, "too large"));
            }
            let with = |frame: &BTreeMap<String, Value>, value: &Value| {
                let mut frame = frame.clone();
                frame.insert(name.clone(), value.clone());
                frame
            };
            frames = values.iter().flat_map(|value| frames.iter().map(|frame| with(frame, value))).collect();
        }
        Ok(frames)
    }

    fn group(&self, at: usize, block: &Block, variant: &Variant) -> Result<Group> {
        let Some(targets) = block.body.attribute("targets") else {
            let fault = Diagnostic::error(format!("the group `{}` has no `targets`", variant.name));
            return Err(Box::new(fault.at(&block.source, block.head, "declared here")));
        };
        let value = self.field(at, 0, "targets")?.unwrap_or(Value::NULL);
        let Some(elements) = value.elements() else {
            return Err(targets.value.fault("`targets` cannot be null", "null"));
        };
        let mut names = Vec::new();
        for element in elements {
            let name = text_of(element).map_err(|why| targets.value.fault(why, element.kind()))?;
            if !names.iter().any(|known: &String| **known == *name) {
                names.push(name.to_string());
            }
        }
        let description = match self.field(at, 0, "description")? {
            Some(Value::Text(text)) => text.to_string(),
            _ => String::new(),
        };
        Ok(Group { name: variant.name.clone(), description, targets: names })
    }

    fn target(
        &self,
        at: usize,
        number: usize,
        block: &Block,
        variant: &Variant,
        counts_from_files: bool,
    ) -> Result<Target> {
        let mut target = Target { name: variant.name.clone(), ..Target::default() };
        for field in FIELDS.into_iter().filter(|field| *field != "name") {
            let Some(value) = self.field_in(at, number, field, &mut target)? else { continue };
            drop(value);
        }
        if counts_from_files {
            let base = folder_of(&block.source.name).unwrap_or_default();
            target.bases = Bases {
                usual: Some(base.clone()),
                context: target.context.as_ref().map(|_| base.clone()),
                contexts: target.contexts.keys().map(|name| (name.clone(), base.clone())).collect(),
            };
            let other =
                block.body.attribute("context").and_then(|context| context_of_another(&context.value));
            let other = other.and_then(|name| {
                let by_name = &self.variants.borrow().by_name;
                let (block, _) = by_name.get(&("target".to_owned(), name))?;
                folder_of(&self.blocks[*block].source.name)
            });
            if let Some(base) = other {
                target.bases.context = Some(base);
            }
        }
        Ok(target)
    }

    /// Evaluates a field into `target`; gives it as expressions see it. `None` if the block does not have it.
    fn field_in(&self, at: usize, number: usize, field: &str, target: &mut Target) -> Result<Option<Value>> {
        let block = &self.blocks[at];
        let Some(attribute) = block.body.attribute(field) else { return Ok(None) };
        let variants = self.variants_of(at, block)?;
        let variant = &variants[number];
        let key = (at, number, field.to_owned());
        // Evaluated once: a time or a random number is the same wherever it is looked at.
        let known = self.fields.borrow().get(&key).cloned().flatten();
        let given = match known {
            Some(found) => found.given,
            None => self.evaluate(&attribute.value, &variant.frame)?,
        };
        let shown = target.set(field, &given).map_err(|why| {
            let message = format!("`{field}` of the target `{}`: {why}", variant.name);
            attribute.value.fault(message, given.kind())
        })?;
        self.fields.borrow_mut().insert(key, Some(Found { given, shown: shown.clone() }));
        Ok(Some(shown))
    }

    /// A field as expressions see it.
    fn field(&self, at: usize, number: usize, field: &str) -> Result<Option<Value>> {
        let key = (at, number, field.to_owned());
        let block = &self.blocks[at];
        match self.fields.borrow().get(&key) {
            Some(Some(found)) => return Ok(Some(found.shown.clone())),
            Some(None) => {
                let name = block.labels.first().cloned().unwrap_or_default();
                let message = format!("`{}.{name}.{field}` needs itself", block.kind);
                let expr = block.body.attribute(field).map(|attribute| &attribute.value);
                return Err(match expr {
                    Some(expr) => expr.fault(message, "its value"),
                    None => Box::new(Diagnostic::error(message).at(&block.source, block.head, "here")),
                });
            }
            None => {}
        }
        let Some(attribute) = block.body.attribute(field) else { return Ok(None) };
        self.fields.borrow_mut().insert(key.clone(), None);
        let found = match block.kind.as_str() {
            "target" => self.field_in(at, number, field, &mut Target::default()),
            _ => {
                let variants = self.variants_of(at, block)?;
                let of = if field == "targets" { Type::List(Box::new(Type::Text)) } else { Type::Text };
                let value = self.evaluate(&attribute.value, &variants[number].frame)?;
                let value = convert(&value, &of).map_err(|why| {
                    let message = format!("`{field}` of the group: {why}");
                    attribute.value.fault(message, value.kind())
                });
                value.map(Some)
            }
        };
        let mut fields = self.fields.borrow_mut();
        match &found {
            Ok(Some(value)) if matches!(fields.get(&key), Some(None)) => {
                fields.insert(key, Some(Found { given: value.clone(), shown: value.clone() }));
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => drop(fields.remove(&key)),
        }
        found
    }

    /// What `target.NAME` is: with that field alone, if one is named.
    pub(in super::super) fn block_value(
        &self,
        kind: &str,
        name: &str,
        field: Option<&str>,
        place: &dyn Fn() -> (Place, Option<Range<usize>>),
    ) -> Result<Value> {
        let key = (kind.to_owned(), name.to_owned());
        let found = self.variants.borrow().by_name.get(&key).copied();
        let Some((at, number)) = found else {
            let (place, range) = place();
            let all = self.variants.borrow();
            let known: Vec<&str> =
                all.by_name.keys().filter(|(of, _)| of == kind).map(|(_, name)| name.as_str()).collect();
            let fault = place.fault(range, format!("there is no {kind} `{name}`"), "unknown");
            return Err(with_help(fault, did_you_mean(name, known)));
        };
        let wanted: Vec<&str> = match field {
            Some(field) => vec![field],
            None => fields_of(kind).to_vec(),
        };
        let mut entries = BTreeMap::new();
        for field in wanted.into_iter().filter(|field| fields_of(kind).contains(field)) {
            let value = match (field, kind) {
                ("name", _) => Some(Value::text(name)),
                (field, _) => self.field(at, number, field)?,
            };
            let of = if kind == "target" { field_type(field) } else { None }.unwrap_or(Type::Any);
            let absent = || match (&of, field) {
                (Type::Text, "description") => Value::text(""),
                (
                    Type::List(of),
                    "attest" | "cache-from" | "cache-to" | "secret" | "ssh" | "output" | "policy",
                ) => Value::list((**of).clone(), Vec::new()),
                (of, _) => Value::Null(of.clone()),
            };
            entries.insert(field.to_owned(), value.unwrap_or_else(absent));
        }
        Ok(Value::object(entries))
    }
}

fn name_place(block: &Block, name: Option<&super::super::body::Expr>) -> Place {
    match name {
        Some(expr) => Place::whole(expr.source(), expr.span()),
        None => Place::whole(&block.source, block.head),
    }
}

/// Letters, digits, `_` and `-`.
fn check_name(name: &str, place: &Place) -> Result<()> {
    let is_fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    match !name.is_empty() && name.chars().all(is_fit) {
        true => Ok(()),
        false => {
            let fault = place.fault(None, format!("`{name}` is no name for a target or group"), "here");
            let help = "names have letters, digits, `_` and `-`; `sanitize(…)` makes one of any text";
            Err(Box::new(fault.help(help)))
        }
    }
}
