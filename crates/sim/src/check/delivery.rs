//! Delivery: when a run is over, every byte has arrived once and right on both sides, and nobody complains.

use crate::node::Report;

/// Compares the clients' and the server's account of the same run.
///
/// # Errors
///
/// A sentence about what does not add up.
pub fn check_delivery(clients: &[Report], server: &Report) -> Result<(), String> {
    for (who, report) in clients.iter().enumerate().map(|(i, r)| (format!("client {i}"), r)) {
        if let Some(fault) = report.faults.first() {
            return Err(format!("{who}: {fault} ({} faults in all)", report.faults.len()));
        }
        if !report.done {
            return Err(format!("{who} is not done: {report:?}"));
        }
    }
    if let Some(fault) = server.faults.first() {
        return Err(format!("server: {fault} ({} faults in all)", server.faults.len()));
    }
    let acknowledged: u64 = clients.iter().map(|report| report.tally.acknowledged_bytes).sum();
    let delivered = server.tally.delivered_bytes;
    if delivered < acknowledged {
        return Err(format!("clients were told that {acknowledged} bytes had arrived, the server read {delivered}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tally;

    #[test]
    fn a_fault_or_an_unfinished_client_fails() {
        let done = Report { done: true, ..Report::default() };
        let faulty = Report { faults: vec!["wrong byte".into()], ..done.clone() };
        assert!(check_delivery(std::slice::from_ref(&done), &Report::default()).is_ok());
        assert!(check_delivery(&[done.clone(), Report::default()], &done).is_err());
        assert!(check_delivery(std::slice::from_ref(&faulty), &done).is_err());
        assert!(check_delivery(std::slice::from_ref(&done), &faulty).is_err());
        let told = Report { tally: Tally { acknowledged_bytes: 1, ..Tally::default() }, ..done };
        assert!(check_delivery(&[told], &Report::default()).is_err());
    }
}
