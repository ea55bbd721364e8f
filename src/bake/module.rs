//! All files of bake's own language together: variables, functions, groups and targets, evaluated as they are asked for.

pub(super) mod blocks;
mod overrides;
mod variables;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use hcl_edit::expr::{Expression, FuncCall};
use hcl_edit::visit::{Visit, visit_func_call};

use super::body::{Attribute, Block, Body, Expr, text_place};
use super::fault::{Result, did_you_mean, with_help};
use super::functions::{self, Surroundings};
use super::json::Json;
use super::limits::Limits;
use super::target::FIELDS;
use super::value::{Type, Value};
use crate::report::{Diagnostic, Span};

/// Where variables get values from that the definition does not give.
#[derive(Debug, Clone, Default)]
pub(super) struct Given {
    /// `--var`
    pub(super) variables: BTreeMap<String, String>,
    pub(super) environment: BTreeMap<String, String>,
    /// Names that mean something by themselves, such as `BAKE_CMD_CONTEXT`.
    pub(super) built_in: BTreeMap<String, String>,
}

/// The definition before it is evaluated, and what was evaluated so far.
pub(super) struct Module {
    pub(super) limits: Limits,
    pub(super) surroundings: Surroundings,
    given: Given,
    variables: BTreeMap<String, Block>,
    attributes: BTreeMap<String, Attribute>,
    functions: BTreeMap<String, Rc<Function>>,
    /// Groups and targets, in the order of the files.
    blocks: Vec<Block>,
    values: RefCell<BTreeMap<String, Value>>,
    /// The types that variables were declared with.
    types: RefCell<BTreeMap<String, Type>>,
    /// Variables whose values are being found, with where they are declared.
    under_way: RefCell<Vec<(String, Expr)>>,
    variants: RefCell<blocks::Variants>,
    fields: RefCell<blocks::Fields>,
    pub(super) warnings: RefCell<Vec<Diagnostic>>,
}

/// A function of the definition.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) params: Vec<String>,
    pub(super) variadic: Option<String>,
    pub(super) result: Expr,
}

const BLOCKS: [&str; 4] = ["target", "group", "variable", "function"];

impl Module {
    /// Files in their order: what comes later goes before what came earlier.
    pub(super) fn new(bodies: Vec<Body>, given: Given, surroundings: Surroundings) -> Result<Self> {
        let mut module = Self {
            limits: Limits::default(),
            surroundings,
            given,
            variables: BTreeMap::new(),
            attributes: BTreeMap::new(),
            functions: BTreeMap::new(),
            blocks: Vec::new(),
            values: RefCell::default(),
            types: RefCell::default(),
            under_way: RefCell::default(),
            variants: RefCell::default(),
            fields: RefCell::default(),
            warnings: RefCell::default(),
        };
        for body in bodies {
            module.add(body)?;
        }
        module.check_functions()?;
        Ok(module)
    }

    fn add(&mut self, body: Body) -> Result<()> {
        for attribute in body.attributes {
            if !self.is_reserved(&attribute.name) {
                self.attributes.insert(attribute.name.clone(), attribute);
            } else if Self::is_block_kind(&attribute.name) {
                let fault = Diagnostic::error(format!("`{}` is a block, and has no value", attribute.name));
                let fault = fault.at(attribute.value.source(), attribute.name_span, "a block");
                return Err(Box::new(fault.help(format!("write `{} \"NAME\" {{ … }}`", attribute.name))));
            }
        }
        for block in body.blocks {
            let name = match block.labels.as_slice() {
                [name] => name.clone(),
                labels if BLOCKS.contains(&block.kind.as_str()) => {
                    let message = format!("`{}` has one name, not {}", block.kind, labels.len());
                    let fault = Diagnostic::error(message).at(&block.source, block.head, "here");
                    return Err(Box::new(fault.help(format!("write `{} \"NAME\" {{ … }}`", block.kind))));
                }
                _ => String::new(),
            };
            match block.kind.as_str() {
                "target" | "group" => self.blocks.push(block),
                "variable" if self.is_reserved(&name) => {}
                "variable" => drop(self.variables.insert(name, block)),
                "function" => {
                    let function = self.function_of(&name, &block)?;
                    self.functions.insert(name, Rc::new(function));
                }
                kind => self.unknown(&block, kind, block.head, "block", &BLOCKS),
            }
        }
        Ok(())
    }

    fn is_reserved(&self, name: &str) -> bool {
        Self::is_block_kind(name) || self.given.built_in.contains_key(name)
    }

    /// Whether blocks of this kind can be looked into.
    pub(super) fn is_block_kind(name: &str) -> bool {
        matches!(name, "target" | "group")
    }

    fn function_of(&self, name: &str, block: &Block) -> Result<Function> {
        let known = ["params", "variadic_params", "result"];
        for attribute in &block.body.attributes {
            if !known.contains(&attribute.name.as_str()) {
                self.unknown(block, &attribute.name, attribute.name_span, "field of a function", &known);
            }
        }
        let required = |field: &str| {
            block.body.attribute(field).map(|attribute| &attribute.value).ok_or_else(|| {
                let message = format!("the function `{name}` has no `{field}`");
                Box::new(Diagnostic::error(message).at(&block.source, block.head, "declared here"))
            })
        };
        let param =
            |expr: &Expr| expr.keyword().ok_or_else(|| expr.fault("a parameter is a plain name", "no name"));
        let params = required("params")?;
        let list = params.list().ok_or_else(|| params.fault("`params` is a list of names", "no list"))?;
        let variadic = block.body.attribute("variadic_params").map(|attribute| param(&attribute.value));
        Ok(Function {
            params: list.iter().map(param).collect::<Result<_>>()?,
            variadic: variadic.transpose()?,
            result: required("result")?.clone(),
        })
    }

    /// A field or block that means nothing. It may be for another program, and definitions with slips such as `cache_from` are
    /// in use, so it is a warning even if it is nearly the name of one that there is.
    fn unknown(&self, block: &Block, name: &str, span: Span, what: &str, known: &[&str]) {
        let warning = Diagnostic::warning("BakeUnknown", format!("there is no {what} `{name}`"));
        let warning = warning.at(&block.source, span, "it changes nothing");
        let near = did_you_mean(name, known.iter().copied());
        self.warnings.borrow_mut().push(near.into_iter().fold(warning, Diagnostic::help));
    }

    pub(super) fn has_function(&self, name: &str) -> bool {
        self.functions.contains_key(name)
    }

    /// The function of the definition, unless rbuild has one of that name: those cannot be replaced.
    pub(super) fn function(&self, name: &str) -> Option<Rc<Function>> {
        if functions::find(name).is_some() {
            return None;
        }
        self.functions.get(name).cloned()
    }

    /// Those of the definition, and rbuild's own.
    pub(super) fn function_names(&self) -> Vec<String> {
        self.functions.keys().cloned().chain(functions::names().map(str::to_owned)).collect()
    }

    /// Functions may not need themselves, and need only functions that there are.
    fn check_functions(&self) -> Result<()> {
        let mut done = std::collections::BTreeSet::new();
        for name in self.functions.keys() {
            self.check_function(name, &mut Vec::new(), &mut done)?;
        }
        Ok(())
    }

    fn check_function(
        &self,
        name: &str,
        path: &mut Vec<String>,
        done: &mut std::collections::BTreeSet<String>,
    ) -> Result<()> {
        let Some(function) = self.functions.get(name) else { return Ok(()) };
        if done.contains(name) {
            return Ok(());
        }
        if let Some(from) = path.iter().position(|known| known == name) {
            let cycle: Vec<&str> = path[from..].iter().map(String::as_str).chain([name]).collect();
            let message = format!("the function `{name}` needs itself: {}", cycle.join(" → "));
            return Err(function.result.fault(message, "its result"));
        }
        if path.len() > 200 {
            return Err(function
                .result
                .fault("more than 200 functions call each other in a row", "the last"));
        }
        path.push(name.to_owned());
        for called in calls(&function.result) {
            let is_known =
                self.functions.contains_key(&called) || functions::names().any(|known| known == called);
            if !is_known {
                let message = format!("there is no function `{called}`, which the function `{name}` calls");
                let known = self.function_names();
                let known = known.iter().map(String::as_str);
                return Err(with_help(
                    function.result.fault(message, "its result"),
                    did_you_mean(&called, known),
                ));
            }
            self.check_function(&called, path, done)?;
        }
        path.pop();
        done.insert(name.to_owned());
        Ok(())
    }
}

/// The functions that an expression calls.
fn calls(expr: &Expr) -> Vec<String> {
    #[derive(Default)]
    struct Calls(Vec<String>);
    impl Visit for Calls {
        fn visit_func_call(&mut self, call: &FuncCall) {
            self.0.push(call.name.name.to_string());
            visit_func_call(self, call);
        }
    }
    let mut calls = Calls::default();
    match expr {
        Expr::Native(native, _) => calls.visit_expr(native),
        Expr::Json(node, source) => {
            let mut open = vec![std::sync::Arc::clone(node)];
            while let Some(node) = open.pop() {
                match &node.value {
                    Json::Text { text, is_plain } => {
                        let _ = text_place(source, node.span, *is_plain);
                        if let Ok(template) = text.parse::<hcl_edit::template::Template>() {
                            calls.visit_template(&template);
                        }
                    }
                    Json::Array(elements) => open.extend(elements.iter().cloned()),
                    Json::Object(properties) => open.extend(properties.iter().map(|one| one.value.clone())),
                    Json::Null | Json::Bool(_) | Json::Number(_) => {}
                }
            }
        }
    }
    calls.0
}

/// Whether an expression is the context of another target and nothing else: `target.NAME.context`.
pub(super) fn context_of_another(expr: &Expr) -> Option<String> {
    use hcl_edit::expr::TraversalOperator;
    let Expr::Native(native, _) = expr else { return None };
    let Expression::Traversal(traversal) = &**native else { return None };
    let Expression::Variable(root) = &traversal.expr else { return None };
    let [name, field] = traversal.operators.as_slice() else { return None };
    match (root.as_str(), name.value(), field.value()) {
        ("target", TraversalOperator::GetAttr(name), TraversalOperator::GetAttr(field))
            if field.as_str() == "context" =>
        {
            Some(name.to_string())
        }
        _ => None,
    }
}

/// The fields that a block of this kind has.
fn fields_of(kind: &str) -> &'static [&'static str] {
    match kind {
        "group" => &["description", "targets", "name"],
        _ => &FIELDS,
    }
}
