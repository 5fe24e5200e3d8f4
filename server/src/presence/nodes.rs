//! Which nodes are dead, by their rows. Only servers that share a database have them; the store writes them.

use crate::db::{Tx, params};
use crate::error::Error;

/// A node whose logins have ended with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DeadNode {
    pub(super) number: i64,
    generation: i64,
}

/// Returns the nodes that are dead and may have left connected logins.
pub(super) async fn dead(tx: &mut Tx<'_>) -> Result<Vec<DeadNode>, Error> {
    let rows = tx.fetch("SELECT number, generation FROM server_node WHERE lease_until < 0", &[]).await?;
    rows.iter().map(|row| Ok(DeadNode { number: row.get(0)?, generation: row.get(1)? })).collect()
}

/// Notes that these nodes have left none, unless a server has taken the number meanwhile.
pub(super) async fn forget(tx: &mut Tx<'_>, nodes: &[DeadNode]) -> Result<(), Error> {
    for node in nodes {
        let sql = "UPDATE server_node SET lease_until = 0 WHERE number = $1 AND generation = $2 AND lease_until < 0";
        tx.execute(sql, &params![node.number, node.generation]).await?;
    }
    Ok(())
}

/// Returns the numbers that servers hold.
pub(super) async fn live(tx: &mut Tx<'_>) -> Result<Vec<i64>, Error> {
    let rows = tx.fetch("SELECT number FROM server_node WHERE lease_until > 0", &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect::<Result<_, _>>()?)
}
