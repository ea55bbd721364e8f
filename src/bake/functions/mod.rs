//! The functions of bake's language, in one table; what each does stands in the file of its topic.
//!
//! `try`, `can` and `convert` look at their arguments before these are evaluated, and are where calls are
//! (`eval/calls`).

pub(super) mod arithmetic;
mod bytes;
mod cidr;
mod collections;
mod dates;
mod format;
mod hashes;
mod json;
mod logic;
mod semver;
mod sequences;
mod sets;
mod strings;
mod uuid;

pub(super) use json::from_json;
pub(super) use strings::clean;

use super::convert::convert;
use super::limits::Limits;
use super::value::{Number, Type, Value};

/// What functions know of the world.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// What `homedir()` gives.
    pub home: String,
    /// What `timestamp()` gives, in seconds since 1970.
    pub now: i64,
}

/// What a function takes in a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// Anything but null.
    Some,
    /// Anything.
    Any,
    Text,
    Number,
    Bool,
    /// A list of strings.
    Texts,
    /// A list; what is in it may be anything.
    List,
    /// A set; what is in it may be anything.
    Set,
    /// Lists or tuples, as they are.
    Sequence,
}

/// A function of the language.
pub(super) struct Builtin {
    name: &'static str,
    takes: &'static [Takes],
    /// What may follow, as often as wanted.
    rest: Option<Takes>,
    run: fn(&Call<'_>) -> Outcome,
}

/// Why a call gave nothing, and at which argument that lies.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) argument: Option<usize>,
    pub(super) why: String,
}

type Outcome = Result<Value, Wrong>;

/// Arguments, each of the type that was asked for.
struct Call<'c> {
    args: Vec<Value>,
    limits: &'c Limits,
    surroundings: &'c Surroundings,
}

impl From<String> for Wrong {
    fn from(why: String) -> Self {
        Self { argument: None, why }
    }
}

impl From<&str> for Wrong {
    fn from(why: &str) -> Self {
        why.to_owned().into()
    }
}

fn at<T>(argument: usize, why: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { argument: Some(argument), why: why.into() })
}

impl Call<'_> {
    fn text(&self, at: usize) -> &str {
        match self.args.get(at) {
            Some(Value::Text(text)) => text,
            _ => "",
        }
    }

    fn number(&self, at: usize) -> Number {
        match self.args.get(at) {
            Some(Value::Number(number)) => *number,
            _ => Number::Whole(0),
        }
    }

    fn bool(&self, at: usize) -> bool {
        matches!(self.args.get(at), Some(Value::Bool(true)))
    }

    /// A whole number of moderate size.
    fn whole(&self, argument: usize) -> Result<i64, Wrong> {
        let number = self.number(argument);
        let whole = number.whole().and_then(|whole| i64::try_from(whole).ok());
        whole.map_or_else(|| at(argument, format!("a whole number is required, not {number}")), Ok)
    }

    /// Elements of a list, set or tuple.
    fn elements(&self, argument: usize) -> Result<&[Value], Wrong> {
        match self.args[argument].elements() {
            Some(elements) => Ok(elements),
            None => at(argument, format!("a list or tuple is required, not {}", self.args[argument].kind())),
        }
    }

    /// A list of strings.
    fn texts(&self, argument: usize) -> Result<Vec<&str>, Wrong> {
        let text = |value: &Value| matches!(value, Value::Text(_));
        let elements = self.elements(argument)?;
        match elements.iter().all(text) {
            true => Ok(elements
                .iter()
                .map(|one| if let Value::Text(text) = one { &**text } else { "" })
                .collect()),
            false => at(argument, "one of the strings is null"),
        }
    }

    fn charge(&self, units: usize) -> Result<(), Wrong> {
        Ok(self.limits.charge(units)?)
    }
}

impl Builtin {
    /// Calls it with what it is given, which is converted to what it takes.
    pub(super) fn call(&self, given: Vec<Value>, limits: &Limits, surroundings: &Surroundings) -> Outcome {
        let least = self.takes.len();
        let fits = given.len() == least || (given.len() > least && self.rest.is_some());
        if !fits {
            let more = if self.rest.is_some() { "at least " } else { "" };
            let plural = if least == 1 { "" } else { "s" };
            return Err(format!("it takes {more}{least} argument{plural}, not {}", given.len()).into());
        }
        let wanted = self.takes.iter().copied().chain(std::iter::repeat(self.rest.unwrap_or(Takes::Any)));
        let one = |(argument, (value, takes)): (usize, (Value, Takes))| {
            value_for(&value, takes).or_else(|why| at(argument, why))
        };
        let args = given.into_iter().zip(wanted).enumerate().map(one).collect::<Result<Vec<_>, _>>()?;
        (self.run)(&Call { args, limits, surroundings })
    }
}

fn value_for(value: &Value, takes: Takes) -> Result<Value, String> {
    if value.is_null() {
        return match takes {
            Takes::Any => Ok(value.clone()),
            _ => Err("it cannot be null".to_owned()),
        };
    }
    match takes {
        Takes::Some | Takes::Any => Ok(value.clone()),
        Takes::Text => convert(value, &Type::Text),
        Takes::Number => convert(value, &Type::Number),
        Takes::Bool => convert(value, &Type::Bool),
        Takes::Texts => convert(value, &Type::List(Box::new(Type::Text))),
        Takes::List => convert(value, &Type::List(Box::new(Type::Any))),
        Takes::Set => convert(value, &Type::Set(Box::new(Type::Any))),
        Takes::Sequence => match value {
            Value::List(..) | Value::Set(..) | Value::Tuple(_) => Ok(value.clone()),
            other => Err(format!("a list or tuple is required, not {}", other.kind())),
        },
    }
}

/// The function of this name.
pub(super) fn find(name: &str) -> Option<&'static Builtin> {
    // The table is in the order of names.
    TABLE.binary_search_by(|builtin| builtin.name.cmp(name)).ok().map(|at| &TABLE[at])
}

/// All names, those of functions that are no table's among them.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|builtin| builtin.name).chain(["can", "convert", "try"])
}

const fn fixed(name: &'static str, takes: &'static [Takes], run: fn(&Call<'_>) -> Outcome) -> Builtin {
    Builtin { name, takes, rest: None, run }
}

const fn open(
    name: &'static str,
    takes: &'static [Takes],
    rest: Takes,
    run: fn(&Call<'_>) -> Outcome,
) -> Builtin {
    Builtin { name, takes, rest: Some(rest), run }
}

use Takes::{Any, Bool, List, Number as Num, Sequence, Set, Some as Given, Text, Texts};

static TABLE: &[Builtin] = &[
    fixed("absolute", &[Num], arithmetic::absolute),
    fixed("add", &[Num, Num], |call| arithmetic::two(call, arithmetic::add)),
    fixed("and", &[Bool, Bool], logic::and),
    fixed("base64decode", &[Text], bytes::base64decode),
    fixed("base64encode", &[Text], bytes::base64encode),
    fixed("basename", &[Text], strings::basename),
    open("bcrypt", &[Text], Num, hashes::bcrypt),
    fixed("byteslen", &[Text], bytes::length),
    fixed("bytesslice", &[Text, Num, Num], bytes::slice),
    fixed("ceil", &[Num], arithmetic::ceil),
    fixed("chomp", &[Text], strings::chomp),
    fixed("chunklist", &[List, Num], sequences::chunk),
    fixed("cidrhost", &[Text, Num], cidr::host),
    fixed("cidrnetmask", &[Text], cidr::netmask),
    fixed("cidrsubnet", &[Text, Num, Num], cidr::subnet),
    open("cidrsubnets", &[Text], Num, cidr::subnets),
    open("coalesce", &[], Any, collections::coalesce),
    open("coalescelist", &[], Any, collections::coalesce_list),
    fixed("compact", &[Texts], sequences::compact),
    open("concat", &[], Sequence, sequences::concat),
    fixed("contains", &[Sequence, Any], sequences::contains),
    fixed("csvdecode", &[Text], strings::csvdecode),
    fixed("dirname", &[Text], strings::dirname),
    fixed("distinct", &[List], sequences::distinct),
    fixed("divide", &[Num, Num], |call| arithmetic::two(call, arithmetic::divide)),
    fixed("element", &[Sequence, Num], sequences::element),
    fixed("equal", &[Any, Any], logic::equal),
    fixed("flatten", &[Sequence], sequences::flatten),
    fixed("floor", &[Num], arithmetic::floor),
    open("format", &[Text], Any, format::format),
    fixed("formatdate", &[Text, Text], dates::formatdate),
    open("formatlist", &[Text], Any, format::formatlist),
    fixed("formattimestamp", &[Text, Given], dates::formattimestamp),
    fixed("greaterthan", &[Num, Num], |call| logic::compare(call, std::cmp::Ordering::is_gt)),
    fixed("greaterthanorequalto", &[Num, Num], |call| logic::compare(call, std::cmp::Ordering::is_ge)),
    fixed("hasindex", &[Given, Given], collections::hasindex),
    fixed("homedir", &[], strings::homedir),
    fixed("indent", &[Num, Text], strings::indent),
    fixed("index", &[Given, Given], collections::index),
    fixed("indexof", &[Sequence, Any], sequences::indexof),
    fixed("int", &[Num], arithmetic::int),
    open("join", &[Text], Texts, strings::join),
    fixed("jsondecode", &[Text], json::decode),
    fixed("jsonencode", &[Any], json::encode),
    fixed("keys", &[Given], collections::keys),
    fixed("length", &[Given], collections::length),
    fixed("lessthan", &[Num, Num], |call| logic::compare(call, std::cmp::Ordering::is_lt)),
    fixed("lessthanorequalto", &[Num, Num], |call| logic::compare(call, std::cmp::Ordering::is_le)),
    fixed("log", &[Num, Num], arithmetic::log),
    fixed("lookup", &[Given, Text, Any], collections::lookup),
    fixed("lower", &[Text], strings::lower),
    open("max", &[], Num, |call| arithmetic::extreme(call, Iterator::max)),
    fixed("md5", &[Text], hashes::md5),
    open("merge", &[], Any, collections::merge),
    open("min", &[], Num, |call| arithmetic::extreme(call, Iterator::min)),
    fixed("modulo", &[Num, Num], |call| arithmetic::two(call, arithmetic::modulo)),
    fixed("multiply", &[Num, Num], |call| arithmetic::two(call, arithmetic::multiply)),
    fixed("negate", &[Num], arithmetic::negated),
    fixed("not", &[Bool], logic::not),
    fixed("notequal", &[Any, Any], logic::not_equal),
    fixed("or", &[Bool, Bool], logic::or),
    fixed("parseint", &[Given, Num], arithmetic::parseint),
    fixed("pow", &[Num, Num], arithmetic::pow),
    open("range", &[], Num, sequences::range),
    fixed("regex", &[Text, Text], strings::regex),
    fixed("regex_replace", &[Text, Text, Text], strings::regex_replace),
    fixed("regexall", &[Text, Text], strings::regexall),
    fixed("replace", &[Text, Text, Text], strings::replace),
    fixed("reverse", &[Text], strings::reverse),
    fixed("reverselist", &[Sequence], sequences::reverse),
    fixed("rsadecrypt", &[Text, Text], hashes::rsadecrypt),
    fixed("sanitize", &[Text], strings::sanitize),
    fixed("semvercmp", &[Text, Text], semver::semvercmp),
    fixed("sethaselement", &[Set, Any], sets::has_element),
    open("setintersection", &[Set], Set, sets::intersection),
    open("setproduct", &[], Sequence, sets::product),
    fixed("setsubtract", &[Set, Set], sets::subtract),
    open("setsymmetricdifference", &[Set], Set, sets::symmetric_difference),
    open("setunion", &[Set], Set, sets::union),
    fixed("sha1", &[Text], hashes::sha1),
    fixed("sha256", &[Text], hashes::sha256),
    fixed("sha512", &[Text], hashes::sha512),
    fixed("signum", &[Num], arithmetic::signum),
    fixed("slice", &[Sequence, Num, Num], sequences::slice),
    fixed("sort", &[Texts], sequences::sort),
    fixed("split", &[Text, Text], strings::split),
    fixed("strlen", &[Text], strings::strlen),
    fixed("substr", &[Text, Num, Num], strings::substr),
    fixed("subtract", &[Num, Num], |call| arithmetic::two(call, arithmetic::subtract)),
    fixed("timeadd", &[Text, Text], dates::timeadd),
    fixed("timestamp", &[], dates::timestamp),
    fixed("title", &[Text], strings::title),
    fixed("trim", &[Text, Text], strings::trim),
    fixed("trimprefix", &[Text, Text], strings::trimprefix),
    fixed("trimspace", &[Text], strings::trimspace),
    fixed("trimsuffix", &[Text, Text], strings::trimsuffix),
    fixed("unixtimestampparse", &[Num], dates::unixtimestampparse),
    fixed("upper", &[Text], strings::upper),
    fixed("urlencode", &[Text], bytes::urlencode),
    fixed("uuidv4", &[], uuid::v4),
    fixed("uuidv5", &[Text, Text], uuid::v5),
    fixed("values", &[Given], collections::values),
    fixed("zipmap", &[List, Sequence], collections::zipmap),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(TABLE.windows(2).all(|pair| pair[0].name < pair[1].name));
    }
}
