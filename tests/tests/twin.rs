//! A worker id that is used twice by mistake: real processes, of which one says so and ends.

use multilangd_tests::daemon::{Application, Services, until};
use multilangd_tests::oracle::numbered;

const SAID: &str = "workerId = same: another process works under this id";

#[test]
fn a_second_process_of_a_worker_id_says_so_and_ends_and_the_first_goes_on() {
    let services = Services::start();
    services.create_stream("s", 2);
    let put = numbered(4, 100);
    services.put("s", put[..200].iter().cloned());
    let app = application(&services, "later");
    let mut first = app.start();
    app.wait_for(&put[..200]);
    let mut second = app.start();
    assert_eq!(second.wait(), 1);
    assert!(second.stderr().contains(SAID), "{}", second.stderr());
    services.put("s", put[200..].iter().cloned());
    app.wait_for(&put);
    assert!(first.is_running());
    for shard in services.leases("later").keys() {
        assert_eq!(app.heard(shard), ["initialize", "processRecords"], "{shard}");
    }
    first.stop();
}

#[test]
fn of_two_processes_of_a_worker_id_that_start_together_one_says_so_and_ends() {
    let services = Services::start();
    services.create_stream("s", 2);
    let put = numbered(4, 100);
    services.put("s", put[..200].iter().cloned());
    let app = application(&services, "together");
    let mut both = [app.start(), app.start()];
    until("one of them has ended", || {
        both.iter_mut().any(|daemon| !daemon.is_running()).then_some(())
    });
    let [one, other] = &mut both;
    let (stays, ended) = if one.is_running() {
        (one, other)
    } else {
        (other, one)
    };
    assert_eq!(ended.wait(), 1);
    assert!(ended.stderr().contains(SAID), "{}", ended.stderr());
    services.put("s", put[200..].iter().cloned());
    app.wait_for(&put);
    assert!(stays.is_running());
    stays.stop();
}

fn application(services: &Services, name: &str) -> Application {
    Application::new(services, name, "s")
        .with("workerId", "same")
        .with("failoverTimeMillis", 3000)
}
