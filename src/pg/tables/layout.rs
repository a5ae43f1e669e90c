//! Whether a leaf is as the store expects it. The store reads and writes below SQL, where PostgreSQL would
//! not notice another type or a missing index. So a leaf is checked before its first use, and again
//! whenever PostgreSQL reports a change of it.
#![expect(unsafe_code, reason = "looks into PostgreSQL's descriptors")]

use super::names::look_up;
use super::open_relation::OpenRelation;
use super::schema::{Column, INDEXES, Root};
use crate::model::partition::Partition;
use crate::pg::error::Error;
use pgrx::pg_sys;
use std::ffi::{CStr, c_char};

/// A leaf whose layout was checked.
#[derive(Clone, Copy, Debug)]
pub struct KnownLeaf {
    /// the table
    pub table: pg_sys::Oid,
    /// its indexes, in the order of [`LeafIndex`]
    pub indexes: [pg_sys::Oid; INDEXES],
    /// It has the indexes of the store and no others, and neither triggers nor constraints to be
    /// checked.
    pub is_plain: bool,
}

unsafe extern "C-unwind" {
    // From catalog/partition.h.
    fn get_partition_parent(relation: pg_sys::Oid, even_if_detached: bool) -> pg_sys::Oid;
}

// From catalog/pg_rewrite.h; the events are those of CmdType.
const REWRITE: u32 = 2618;
const REWRITE_RELID_RULENAME_INDEX: u32 = 2693;
const RULE_UPDATE: u8 = b'2';
const RULE_INSERT: u8 = b'3';
// From rewrite/rewriteDefine.h.
const RULE_DISABLED: u8 = b'D';

/// `FormData_pg_rewrite` of catalog/pg_rewrite.h, up to what is needed.
#[repr(C)]
struct Rewrite {
    _oid: pg_sys::Oid,
    rulename: pg_sys::NameData,
    _ev_class: pg_sys::Oid,
    ev_type: c_char,
    ev_enabled: c_char,
}

// From catalog/pg_inherits.h and pg_opfamily.dat.
const INHERITS: u32 = 2611;
const INHERITS_RELID_SEQNO_INDEX: u32 = 2680;
const UUID_BTREE_FAMILY: u32 = 2968;

/// `FormData_pg_inherits` of catalog/pg_inherits.h.
#[repr(C)]
struct Inherits {
    _inhrelid: pg_sys::Oid,
    _inhparent: pg_sys::Oid,
    _inhseqno: i32,
    inhdetachpending: bool,
}

/// Checks an open leaf, and finds its indexes.
pub fn check_leaf(
    root: Root,
    partition: Partition,
    relation: pg_sys::Relation,
) -> Result<KnownLeaf, Error> {
    let name = root.leaf(partition);
    let wrong = |problem: String| Error::Layout { object: name.clone(), problem };
    // SAFETY: the relation is open.
    unsafe {
        check_table(relation).map_err(wrong)?;
        check_place(root, partition, relation).map_err(wrong)?;
        check_columns(root.columns(), (*relation).rd_att).map_err(wrong)?;
        check_statement_triggers(root)?;
        check_rules(root, look_up(root.table())?, root.table())?;
        check_rules(root, (*relation).rd_id, &name)?;
        let mut indexes = [pg_sys::InvalidOid; INDEXES];
        for (oid, (suffix, key)) in indexes.iter_mut().zip(root.indexes()) {
            let index = format!("{name}_{suffix}");
            *oid = look_up(&index)?;
            check_index(*oid, (*relation).rd_id, root, key)
                .map_err(|problem| Error::Layout { object: index, problem })?;
        }
        let own = root.indexes().len();
        let is_plain = (*relation).trigdesc.is_null()
            && !has_checks(root, (*relation).rd_att)
            && index_count(relation) == own;
        Ok(KnownLeaf { table: (*relation).rd_id, indexes, is_plain })
    }
}

unsafe fn check_table(relation: pg_sys::Relation) -> Result<(), String> {
    // SAFETY: the relation is open.
    let class = unsafe { &*(*relation).rd_rel };
    if class.relkind as u8 != pg_sys::RELKIND_RELATION {
        return Err("It is not a table.".into());
    }
    if class.relpersistence as u8 != pg_sys::RELPERSISTENCE_PERMANENT {
        return Err("It is not a permanent table.".into());
    }
    if class.relam != pg_sys::HEAP_TABLE_AM_OID {
        return Err("Its access method is not heap.".into());
    }
    Ok(())
}

/// Whether it is the partition of its parent for the number that its name has.
unsafe fn check_place(
    root: Root,
    partition: Partition,
    relation: pg_sys::Relation,
) -> Result<(), String> {
    let not_attached = || format!("It is not a partition of {}.", root.table());
    let parent = look_up(root.table()).map_err(|_| not_attached())?;
    // SAFETY: the relation is open and locked; a partition has a parent.
    unsafe {
        let is_partition = (*(*relation).rd_rel).relispartition;
        if !is_partition || is_being_detached((*relation).rd_id) {
            return Err(not_attached());
        }
        let oid = (*relation).rd_id;
        if pg_sys::ffi::pg_guard_ffi_boundary(|| get_partition_parent(oid, true)) != parent {
            return Err(not_attached());
        }
        if bound(oid) != Some(partition.number()) {
            return Err(format!("It is not the partition for {}.", partition.number()));
        }
    }
    Ok(())
}

/// Whether `DETACH PARTITION … CONCURRENTLY` has begun with it.
unsafe fn is_being_detached(relation: pg_sys::Oid) -> bool {
    let mut pending = false;
    // SAFETY: rows of pg_inherits have this structure.
    unsafe {
        scan_by_oid(INHERITS.into(), INHERITS_RELID_SEQNO_INDEX, 1, relation, |tuple| {
            pending |= (*pg_sys::GETSTRUCT(tuple).cast::<Inherits>()).inhdetachpending;
        });
    }
    pending
}

/// The number that a partition is for, where its bound is a single one.
unsafe fn bound(relation: pg_sys::Oid) -> Option<i32> {
    // SAFETY: a catalog look-up; the bound is a text that PostgreSQL has written.
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::RELOID as i32;
        let tuple = pg_sys::SearchSysCache1(cache, pg_sys::Datum::from(relation));
        if tuple.is_null() {
            return None;
        }
        let mut null = false;
        let column = pg_sys::Anum_pg_class_relpartbound as i16;
        let text = pg_sys::SysCacheGetAttr(cache, tuple, column, &mut null);
        let number = (!null).then(|| {
            let text = pg_sys::text_to_cstring(text.cast_mut_ptr());
            let spec = pg_sys::stringToNode(text).cast::<pg_sys::PartitionBoundSpec>();
            if (*spec).is_default || pg_sys::list_length((*spec).listdatums) != 1 {
                return None;
            }
            let value = pg_sys::list_nth((*spec).listdatums, 0).cast::<pg_sys::Const>();
            (!(*value).constisnull).then(|| (*value).constvalue.value() as i32)
        });
        pg_sys::ReleaseSysCache(tuple);
        number.flatten()
    }
}

/// Refuses statement-level triggers of the partitioned table: SQL would fire them, but here there is no
/// statement, and an audit would have gaps.
unsafe fn check_statement_triggers(root: Root) -> Result<(), Error> {
    let parent = look_up(root.table())?;
    let ours = match root {
        Root::Streams => pg_sys::TRIGGER_TYPE_INSERT | pg_sys::TRIGGER_TYPE_UPDATE,
        Root::Log | Root::Ids | Root::Batches => pg_sys::TRIGGER_TYPE_INSERT,
    };
    let mut found = None;
    // SAFETY: opened and closed in pairs; rows of pg_trigger have this structure.
    unsafe {
        scan_by_oid(
            pg_sys::TriggerRelationId,
            pg_sys::TriggerRelidNameIndexId,
            2,
            parent,
            |tuple| {
                let trigger = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_trigger>();
                let kind = trigger.tgtype as u32;
                let is_disabled = trigger.tgenabled as u8 == pg_sys::TRIGGER_DISABLED;
                if kind & pg_sys::TRIGGER_TYPE_ROW == 0 && kind & ours != 0 && !is_disabled {
                    let name = CStr::from_ptr(trigger.tgname.data.as_ptr());
                    found = Some(name.to_string_lossy().into_owned());
                }
            },
        );
    }
    match found {
        None => Ok(()),
        Some(trigger) => Err(Error::StatementTrigger { table: root.table(), trigger }),
    }
}

/// Refuses rules of the partitioned table or of the leaf: SQL would apply them.
unsafe fn check_rules(root: Root, relation: pg_sys::Oid, table: &str) -> Result<(), Error> {
    let is_ours = |event: u8| event == RULE_INSERT || root == Root::Streams && event == RULE_UPDATE;
    let mut found = None;
    // SAFETY: rows of pg_rewrite have this structure.
    unsafe {
        scan_by_oid(REWRITE.into(), REWRITE_RELID_RULENAME_INDEX, 3, relation, |tuple| {
            let rule = &*pg_sys::GETSTRUCT(tuple).cast::<Rewrite>();
            let is_disabled = rule.ev_enabled as u8 == RULE_DISABLED;
            if is_ours(rule.ev_type as u8) && !is_disabled {
                let name = CStr::from_ptr(rule.rulename.data.as_ptr());
                found = Some(name.to_string_lossy().into_owned());
            }
        });
    }
    match found {
        None => Ok(()),
        Some(rule) => Err(Error::Rule { table: table.to_owned(), rule }),
    }
}

/// Passes the rows of a catalog whose column number `column` is this OID.
unsafe fn scan_by_oid(
    catalog: pg_sys::Oid,
    index: u32,
    column: i16,
    oid: pg_sys::Oid,
    mut use_tuple: impl FnMut(pg_sys::HeapTuple),
) {
    // SAFETY: opened and closed in pairs; the index begins with the column.
    unsafe {
        let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
        let relation = pg_sys::table_open(catalog, lock);
        let mut key = pg_sys::ScanKeyData::default();
        pg_sys::ScanKeyInit(
            &mut key,
            column,
            pg_sys::BTEqualStrategyNumber as u16,
            pg_sys::F_OIDEQ.into(),
            pg_sys::Datum::from(oid),
        );
        let snapshot = std::ptr::null_mut();
        let scan = pg_sys::systable_beginscan(relation, index.into(), true, snapshot, 1, &mut key);
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            use_tuple(tuple);
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(relation, lock);
    }
}

unsafe fn attributes<'a>(descriptor: pg_sys::TupleDesc) -> &'a [pg_sys::FormData_pg_attribute] {
    // SAFETY: a descriptor has `natts` attributes.
    unsafe {
        std::slice::from_raw_parts((*descriptor).attrs.as_ptr(), (*descriptor).natts as usize)
    }
}

unsafe fn check_columns(columns: &[Column], descriptor: pg_sys::TupleDesc) -> Result<(), String> {
    // SAFETY: of an open relation.
    let found = unsafe { attributes(descriptor) };
    if found.len() != columns.len() {
        return Err(format!("It has {} columns instead of {}.", found.len(), columns.len()));
    }
    for (column, attribute) in columns.iter().zip(found) {
        // SAFETY: names end with a zero.
        let name = unsafe { CStr::from_ptr(attribute.attname.data.as_ptr()) };
        if attribute.attisdropped || name.to_bytes() != column.name.as_bytes() {
            return Err(format!("Column \"{}\" is not in its place.", column.name));
        }
        if attribute.atttypid != column.type_oid || attribute.attcollation != column.collation() {
            return Err(format!("Column \"{}\" has another type or collation.", column.name));
        }
        if attribute.attgenerated != 0 as c_char {
            return Err(format!("Column \"{}\" is generated.", column.name));
        }
    }
    Ok(())
}

/// Whether there are constraints that not every row of the store fulfils.
unsafe fn has_checks(root: Root, descriptor: pg_sys::TupleDesc) -> bool {
    // SAFETY: of an open relation.
    unsafe {
        let constraints = (*descriptor).constr;
        let checks = !constraints.is_null() && (*constraints).num_check > 0;
        let optional = root.columns().iter().zip(attributes(descriptor));
        checks || optional.filter(|(column, _)| column.may_be_null()).any(|(_, a)| a.attnotnull)
    }
}

unsafe fn index_count(relation: pg_sys::Relation) -> usize {
    // SAFETY: the relation is open; the list is a copy.
    unsafe {
        let list = pg_sys::RelationGetIndexList(relation);
        let count = pg_sys::list_length(list);
        pg_sys::list_free(list);
        count as usize
    }
}

/// Checks that an index is a unique one of the table over these columns, in their ascending order.
unsafe fn check_index(
    oid: pg_sys::Oid,
    table: pg_sys::Oid,
    root: Root,
    key: &[usize],
) -> Result<(), String> {
    // SAFETY: the index was just found, and its table is locked; the arrays have an element for each column of the key.
    unsafe {
        let relation = OpenRelation::open_to_read(oid);
        let open = &*relation.get();
        if open.rd_index.is_null() || (*open.rd_rel).relam != pg_sys::BTREE_AM_OID {
            return Err("It is not a B-tree index.".into());
        }
        let index = &*open.rd_index;
        if index.indrelid != table {
            return Err("It is an index of another table.".into());
        }
        if !index.indisunique || !index.indimmediate {
            return Err("It is not unique, or its uniqueness is deferrable.".into());
        }
        if !index.indisvalid || !index.indisready || !index.indislive {
            return Err("It is not valid.".into());
        }
        let columns = index.indkey.values.as_slice(index.indnatts as usize);
        let is_whole = pg_sys::RelationGetIndexPredicate(relation.get()).is_null();
        let matches = usize::from(index.indnkeyatts as u16) == key.len()
            && key.iter().enumerate().all(|(place, column)| {
                let wanted = &root.columns()[*column];
                let family: pg_sys::Oid = match wanted.type_oid {
                    pg_sys::TEXTOID => pg_sys::TEXT_BTREE_FAM_OID,
                    pg_sys::UUIDOID => UUID_BTREE_FAMILY.into(),
                    _ => pg_sys::INTEGER_BTREE_FAM_OID,
                };
                columns[place] == *column as i16 + 1
                    && *open.rd_opfamily.add(place) == family
                    && *open.rd_indcollation.add(place) == wanted.collation()
                    && *open.rd_indoption.add(place) == 0
            });
        if !matches || !is_whole {
            return Err(
                "It is not over the columns, or not over the rows, that it should be.".into()
            );
        }
    }
    Ok(())
}
