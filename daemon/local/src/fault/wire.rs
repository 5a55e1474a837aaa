//! Faults as JSON, for `POST /_multilangd/faults`.

use std::time::Duration;

use super::{Effect, Fault, FaultPlan, When};
use crate::value::{Request, Value, json};
use crate::writer::{Format, Writer};

/// All keys that a fault may have.
const KEYS: [&str; 14] = [
    "operation",
    "only",
    "call",
    "every",
    "share",
    "seed",
    "times",
    "for_seconds",
    "delay_ms",
    "error",
    "status",
    "message",
    "unanswered",
    "cut",
];

/// Reads one fault or a list of them. The error is for the person who wrote them.
pub(crate) fn read(body: &[u8]) -> Result<Vec<Fault>, String> {
    let value = json::read(body).map_err(|error| error.message)?;
    match &value {
        Value::List(items) => items
            .iter()
            .enumerate()
            .map(|(index, item)| read_one(item).map_err(|reason| format!("fault {}: {reason}", index + 1)))
            .collect(),
        one => read_one(one).map(|fault| vec![fault]),
    }
}

fn read_one(value: &Value<'_>) -> Result<Fault, String> {
    let Value::Map(members) = value else {
        return Err("a fault is an object".into());
    };
    if let Some((key, _)) = members.iter().find(|(key, _)| !KEYS.contains(&key.as_ref())) {
        return Err(format!("unknown key {key}; there are {}", KEYS.join(", ")));
    }
    let request = Request(value);
    let number = |name| match request.get(name) {
        None => Ok(None),
        Some(Value::Integer(number)) if *number >= 0 => Ok(Some(*number as f64)),
        Some(Value::Float(number)) if *number >= 0.0 => Ok(Some(*number)),
        Some(_) => Err(format!("{name} must be a number, not negative")),
    };
    let count = |name| match number(name)? {
        None => Ok(None),
        Some(n) if n >= 1.0 && n.fract() == 0.0 => Ok(Some(n as u64)),
        Some(_) => Err(format!("{name} must be a whole number from 1")),
    };
    let text = |name| {
        request
            .text(name)
            .map(|text| text.map(str::to_owned))
            .map_err(|error| error.message)
    };
    let flag = |name| {
        request
            .boolean(name)
            .map(|flag| flag.unwrap_or(false))
            .map_err(|error| error.message)
    };

    let operation = text("operation")?.ok_or("operation is missing, such as \"kinesis.GetRecords\"")?;
    if !known(&operation) {
        return Err(format!(
            "unknown operation {operation}: write it like kinesis.GetRecords, dynamodb.UpdateItem, kinesis.* or *"
        ));
    }
    let mut fault = Fault::on(operation);
    fault.only = text("only")?;
    fault.times = count("times")?;
    fault.within = number("for_seconds")?.map(Duration::from_secs_f64);
    fault.delay = number("delay_ms")?.map(|ms| Duration::from_secs_f64(ms / 1000.0));
    let seed = number("seed")?.unwrap_or(0.0) as u64;
    fault.when = match (count("call")?, count("every")?, number("share")?) {
        (None, None, None) => When::Always,
        (Some(n), None, None) => When::Call(n),
        (None, Some(n), None) => When::Every(n),
        (None, None, Some(share)) if share <= 1.0 => When::Share { share, seed },
        (None, None, Some(share)) => return Err(format!("share must be from 0 to 1, and is {share}")),
        _ => return Err("call, every and share exclude each other".into()),
    };
    fault = match (text("error")?, flag("unanswered")?, flag("cut")?) {
        (None, false, false) => fault,
        (Some(code), false, false) => fault.error(code),
        (None, true, false) => fault.unanswered(),
        (None, false, true) => fault.cut(),
        _ => return Err("error, unanswered and cut exclude each other".into()),
    };
    match &mut fault.effect {
        Some(Effect::Error { status, message, .. }) => {
            if let Some(given) = count("status")? {
                *status = u16::try_from(given)
                    .ok()
                    .filter(|status| (400..600).contains(status))
                    .ok_or_else(|| format!("status must be from 400 to 599, and is {given}"))?;
            }
            if let Some(given) = text("message")? {
                *message = given;
            }
        }
        _ if request.get("status").is_some() || request.get("message").is_some() => {
            return Err("status and message belong to error".into());
        }
        None if fault.delay.is_none() => {
            return Err("nothing would happen: say error, delay_ms, unanswered or cut".into());
        }
        _ => {}
    }
    Ok(fault)
}

fn known(operation: &str) -> bool {
    match operation.split_once('.') {
        None => operation == "*",
        Some(("kinesis", "*") | ("dynamodb", "*")) => true,
        Some(("kinesis", _)) if operation == crate::http::kinesis::EVENT => true,
        Some(("kinesis", name)) => crate::kinesis::OPERATIONS.contains(&name),
        Some(("dynamodb", name)) => crate::dynamodb::OPERATIONS.contains(&name),
        Some(_) => false,
    }
}

/// The plan as a list, with how often each fault met and struck a call.
pub(crate) fn write(plan: &FaultPlan) -> Vec<u8> {
    let mut w = Writer::new(Format::Json);
    w.open_list();
    for active in plan.lock().iter() {
        let fault = &active.fault;
        w.open_map().key("operation").text(&fault.operation);
        if let Some(only) = &fault.only {
            w.key("only").text(only);
        }
        match fault.when {
            When::Always => {}
            When::Call(n) => drop(w.key("call").integer(n as i64)),
            When::Every(n) => drop(w.key("every").integer(n as i64)),
            When::Share { share, seed } => drop(w.key("share").float(share).key("seed").integer(seed as i64)),
        }
        if let Some(times) = fault.times {
            w.key("times").integer(times as i64);
        }
        if let Some(window) = fault.within {
            w.key("for_seconds").float(window.as_secs_f64());
        }
        if let Some(delay) = fault.delay {
            w.key("delay_ms").float(delay.as_secs_f64() * 1000.0);
        }
        match &fault.effect {
            None => {}
            Some(Effect::Error {
                code,
                status,
                message,
            }) => {
                w.key("error")
                    .text(code)
                    .key("status")
                    .integer(i64::from(*status))
                    .key("message")
                    .text(message);
            }
            Some(Effect::Unanswered) => drop(w.key("unanswered").boolean(true)),
            Some(Effect::Cut) => drop(w.key("cut").boolean(true)),
        }
        w.key("calls")
            .integer(active.calls as i64)
            .key("struck")
            .integer(active.struck as i64)
            .close_map();
    }
    w.close_list();
    let mut body = w.finish();
    body.push(b'\n');
    body
}
