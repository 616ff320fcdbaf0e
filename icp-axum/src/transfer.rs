//! Resources as a file, and a file as resources: those of an organization, and for operators the
//! organizations themselves.

mod apply;
mod export;
mod file;
mod import;

use icp_core::access::{Area, Operation, OrganizationSpec};
use icp_core::resource::Spec;

use self::file::Rows;
pub(crate) use self::file::YAML;
use crate::endpoint::{Endpoint, may};

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let org = "/api/v1/organizations/{org}";
    let (read, write) =
        (may(Area::Integrations, Operation::Export), may(Area::Integrations, Operation::Write));
    let area = OrganizationSpec::AREA;
    let (read_all, write_all) = (may(area, Operation::Export), may(area, Operation::Configure));
    vec![
        Endpoint::get(read, format!("{org}/export"), export::resources)
            .named("exportResources", "Shows resources as a file, their secrets masked")
            .query(export::RESOURCES)
            .answers::<Rows>(200)
            .csv_too(),
        Endpoint::post(write, format!("{org}/import"), import::resources)
            .named("importResources", "Makes the rows of a file resources")
            .query(import::IMPORT)
            .takes::<Rows>()
            .csv_too()
            .answers::<import::ImportAnswer>(200),
        Endpoint::get(read_all, "/api/v1/export/organizations", export::organizations)
            .named("exportOrganizations", "Shows organizations as a file, for operators")
            .query(export::ORGANIZATIONS)
            .answers::<Rows>(200)
            .csv_too(),
        Endpoint::post(write_all, "/api/v1/import/organizations", import::organizations)
            .named("importOrganizations", "Makes the rows of a file organizations, for operators")
            .query(import::IMPORT)
            .takes::<Rows>()
            .csv_too()
            .answers::<import::ImportAnswer>(200),
        Endpoint::post(write, format!("{org}/apply"), apply::apply)
            .named("applyResources", "Makes changes of several kinds in one write, or none of them")
            .takes::<apply::Plan>()
            .answers::<apply::PlanAnswer>(200),
    ]
}
