//! Operators.

use hcl_edit::Span as _;
use hcl_edit::expr::{BinaryOp, BinaryOperator, UnaryOp, UnaryOperator};

use super::super::convert::convert;
use super::super::fault::{Place, Result};
use super::super::functions::arithmetic;
use super::super::module::Module;
use super::super::value::{Number, Type, Value};
use super::Frame;

impl Module {
    pub(super) fn eval_unary(&self, op: &UnaryOp, place: &Place, frame: &Frame<'_>) -> Result<Value> {
        let value = self.eval(&op.expr, place, frame)?;
        let wrong = |why: String| place.fault(op.expr.span(), why, value.kind());
        match op.operator.value() {
            UnaryOperator::Neg => {
                let number = number(&value).map_err(wrong)?;
                arithmetic::negate(number).map(Value::Number).map_err(wrong)
            }
            UnaryOperator::Not => Ok(Value::Bool(!boolean(&value).map_err(wrong)?)),
        }
    }

    pub(super) fn eval_binary(&self, op: &BinaryOp, place: &Place, frame: &Frame<'_>) -> Result<Value> {
        use BinaryOperator::{
            And, Div, Eq, Greater, GreaterEq, Less, LessEq, Minus, Mod, Mul, NotEq, Or, Plus,
        };
        let operator = *op.operator.value();
        let left = self.eval(&op.lhs_expr, place, frame)?;
        let of_left = |why: String| place.fault(op.lhs_expr.span(), why, left.kind());
        // What decides already leaves the other side alone.
        match operator {
            And if !boolean(&left).map_err(of_left)? => return Ok(Value::Bool(false)),
            Or if boolean(&left).map_err(of_left)? => return Ok(Value::Bool(true)),
            _ => {}
        }
        let right = self.eval(&op.rhs_expr, place, frame)?;
        let of_right = |why: String| place.fault(op.rhs_expr.span(), why, right.kind());
        match operator {
            Eq => return Ok(Value::Bool(left.same(&right))),
            NotEq => return Ok(Value::Bool(!left.same(&right))),
            And | Or => return Ok(Value::Bool(boolean(&right).map_err(of_right)?)),
            _ => {}
        }
        let (one, two) = (number(&left).map_err(of_left)?, number(&right).map_err(of_right)?);
        let result = match operator {
            Less => return Ok(Value::Bool(one < two)),
            LessEq => return Ok(Value::Bool(one <= two)),
            Greater => return Ok(Value::Bool(one > two)),
            GreaterEq => return Ok(Value::Bool(one >= two)),
            Plus => arithmetic::add(one, two),
            Minus => arithmetic::subtract(one, two),
            Mul => arithmetic::multiply(one, two),
            Div => arithmetic::divide(one, two),
            Mod => arithmetic::modulo(one, two),
            Eq | NotEq | And | Or => return Ok(Value::NULL),
        };
        result.map(Value::Number).map_err(|why| place.fault(op.span(), why, "here"))
    }
}

fn number(value: &Value) -> std::result::Result<Number, String> {
    match convert(value, &Type::Number) {
        Ok(Value::Number(number)) => Ok(number),
        Ok(_) => Err("null is no number".to_owned()),
        Err(why) => Err(format!("this operator works on numbers: {why}")),
    }
}

fn boolean(value: &Value) -> std::result::Result<bool, String> {
    match convert(value, &Type::Bool) {
        Ok(Value::Bool(value)) => Ok(value),
        Ok(_) => Err("null is no bool".to_owned()),
        Err(why) => Err(format!("this operator works on bools: {why}")),
    }
}
