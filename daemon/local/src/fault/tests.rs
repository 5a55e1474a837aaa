use super::*;

fn struck(fault: Fault, calls: usize) -> Vec<usize> {
    let plan = FaultPlan::default();
    plan.add(fault.error("SomeException"));
    let now = Instant::now();
    (1..=calls)
        .filter(|_| plan.judge("kinesis.GetRecords", &[], now).effect.is_some())
        .collect()
}

#[test]
fn the_nth_call_and_every_nth_are_struck() {
    assert_eq!(struck(Fault::on("kinesis.GetRecords").call(3), 10), [3]);
    assert_eq!(struck(Fault::on("kinesis.*").every(4), 12), [4, 8, 12]);
    assert_eq!(struck(Fault::on("*").times(2), 10), [1, 2]);
    assert_eq!(struck(Fault::on("kinesis.PutRecord"), 10), [0; 0]);
}

#[test]
fn a_share_is_drawn_and_the_same_seed_draws_the_same_calls() {
    let first = struck(Fault::on("*").share(0.2, 7), 10_000);
    assert!((1_800..2_200).contains(&first.len()), "{}", first.len());
    assert_eq!(struck(Fault::on("*").share(0.2, 7), 10_000), first);
    assert_ne!(struck(Fault::on("*").share(0.2, 8), 10_000), first);
}

#[test]
fn a_fault_for_one_shard_leaves_the_others_alone() {
    let plan = FaultPlan::default();
    plan.add(Fault::on("kinesis.GetRecords").only("shardId-000000000001").cut());
    let now = Instant::now();
    assert_eq!(
        plan.judge("kinesis.GetRecords", &["orders", "shardId-000000000000"], now)
            .effect,
        None
    );
    assert_eq!(
        plan.judge("kinesis.GetRecords", &["orders", "shardId-000000000001"], now)
            .effect,
        Some(Effect::Cut)
    );
}

#[test]
fn a_window_ends() {
    let plan = FaultPlan::default();
    plan.add(Fault::on("*").within(Duration::from_secs(60)).cut());
    let now = Instant::now();
    assert!(
        plan.judge("dynamodb.Scan", &[], now + Duration::from_secs(59))
            .effect
            .is_some()
    );
    assert!(
        plan.judge("dynamodb.Scan", &[], now + Duration::from_secs(61))
            .effect
            .is_none()
    );
}

#[test]
fn delays_add_up_and_the_first_effect_holds() {
    let plan = FaultPlan::default();
    plan.add(Fault::on("*").delay(Duration::from_millis(10)));
    plan.add(Fault::on("*").delay(Duration::from_millis(5)).unanswered());
    plan.add(Fault::on("*").cut());
    let verdict = plan.judge("dynamodb.Scan", &[], Instant::now());
    assert_eq!(
        verdict,
        Verdict {
            delay: Duration::from_millis(15),
            effect: Some(Effect::Unanswered)
        }
    );
}

#[test]
fn faults_are_read_from_json() {
    let read = wire::read(
        br#"[{"operation":"dynamodb.UpdateItem","only":"app","every":3,"error":"ThrottlingException"},
             {"operation":"kinesis.*","share":0.5,"seed":9,"for_seconds":1.5,"delay_ms":250},
             {"operation":"*","call":1,"times":1,"error":"X","status":503,"message":"no"}]"#,
    );
    let mut third = Fault::on("*").call(1).times(1);
    third.effect = Some(Effect::Error {
        code: "X".into(),
        status: 503,
        message: "no".into(),
    });
    assert_eq!(
        read.unwrap(),
        [
            Fault::on("dynamodb.UpdateItem")
                .only("app")
                .every(3)
                .error("ThrottlingException"),
            Fault::on("kinesis.*")
                .share(0.5, 9)
                .within(Duration::from_millis(1500))
                .delay(Duration::from_millis(250)),
            third,
        ]
    );
}

#[test]
fn a_wrong_fault_is_refused_with_what_is_wrong() {
    for (body, wanted) in [
        (
            r#"{"operation":"kinesis.GetRecord","cut":true}"#,
            "unknown operation kinesis.GetRecord",
        ),
        (r#"{"operation":"*","cutt":true}"#, "unknown key cutt"),
        (r#"{"operation":"*"}"#, "nothing would happen"),
        (
            r#"{"operation":"*","call":1,"every":2,"cut":true}"#,
            "exclude each other",
        ),
        (
            r#"{"operation":"*","share":20,"cut":true}"#,
            "share must be from 0 to 1",
        ),
        (
            r#"{"operation":"*","call":0,"cut":true}"#,
            "call must be a whole number from 1",
        ),
        (
            r#"[{"operation":"*","cut":true},{"cut":true}]"#,
            "fault 2: operation is missing",
        ),
        (
            r#"{"operation":"*","error":"X","status":200}"#,
            "status must be from 400 to 599",
        ),
    ] {
        let reason = wire::read(body.as_bytes()).unwrap_err();
        assert!(reason.contains(wanted), "{body}: {reason}");
    }
}

#[test]
fn the_plan_is_shown_with_what_it_struck() {
    let plan = FaultPlan::default();
    plan.add(Fault::on("*").every(2).cut());
    for _ in 0..5 {
        plan.judge("kinesis.PutRecord", &[], Instant::now());
    }
    assert_eq!(
        String::from_utf8(wire::write(&plan)).unwrap(),
        "[{\"operation\":\"*\",\"every\":2,\"cut\":true,\"calls\":5,\"struck\":2}]\n"
    );
}
