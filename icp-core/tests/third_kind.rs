//! A kind of resource that a host brings along gets everything the built-in kinds have, from one
//! `impl Spec` and one line at the builder.

#![expect(clippy::unwrap_used, reason = "a setup that fails is a test that fails")]

use std::borrow::Cow;
use std::sync::Arc;

use icp_core::Engine;
use icp_core::access::Area;
use icp_core::error::{Code, Error, Result};
use icp_core::id::{OrgId, ResourceId};
use icp_core::resource::{
    Actor, AuditQuery, Compiled, Document, Draft, Effect, Expect, ListQuery, ResourceStore,
    Revision, Spec, SpecContext, Violations,
};
use icp_core::secret::{
    LocalKeys, MASK, Place, Secret, SecretString, SecretVisitor, SystemEntropy,
};
use icp_core::store::{MemoryStore, PageQuery};
use icp_core::transform::{InPlace, PlanSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const CANARY: &str = "hunter2-canary";

/// A colour, and the recipe for mixing it, which the shop keeps to itself.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
struct Color {
    code: Shade,
    #[serde(default)]
    #[schemars(range(max = 100))]
    gloss: u8,
    recipe: Secret,
}

#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(tag = "space", rename_all = "snake_case")]
enum Shade {
    Rgb { red: u8, green: u8, blue: u8 },
    Named { name: String },
}

/// What a node holds of a colour.
#[derive(Debug)]
struct Mixed {
    css: String,
    recipe: SecretString,
}

impl Spec for Color {
    const KIND: &'static str = "color";
    const PLURAL: &'static str = "colors";
    const AREA: Area = Area::Settings;

    fn validate(&self, _: &SpecContext<'_>, violations: &mut Violations) {
        if let Shade::Named { name } = &self.code
            && name.is_empty()
        {
            violations.add("/code/name", "empty", "name the color");
        }
    }

    fn visit_secrets(&mut self, visitor: &mut dyn SecretVisitor) -> Result<()> {
        visitor.secret(Place::new("recipe", "/recipe"), &mut self.recipe)
    }

    fn effects(&self, _: &ResourceId) -> Vec<Effect> {
        Vec::new()
    }

    fn plans(&self) -> Vec<(&'static str, Cow<'_, PlanSpec>)> {
        Vec::new()
    }

    fn compile(&self, context: &SpecContext<'_>) -> Result<Compiled> {
        let css = match &self.code {
            Shade::Rgb { red, green, blue } => format!("rgb({red} {green} {blue})"),
            Shade::Named { name } => name.clone(),
        };
        Ok(Arc::new(Mixed { css, recipe: context.opener().open("recipe", &self.recipe)? }))
    }
}

struct Shop {
    store: MemoryStore,
    keys: LocalKeys,
    engine: Engine,
    org: OrgId,
}

fn engine(store: &MemoryStore, keys: &LocalKeys) -> Engine {
    Engine::builder(store.clone()).keys(keys.clone()).kind::<Color>().build().unwrap()
}

fn id(text: &str) -> ResourceId {
    ResourceId::new(text).unwrap()
}

fn painter() -> Actor {
    Actor { name: "key:painter".into(), request_id: Some("req-1".into()), ..Actor::host() }
}

fn red() -> Value {
    json!({ "code": { "space": "rgb", "red": 255, "green": 0, "blue": 0 }, "recipe": CANARY })
}

fn draft(name: &str, label: &str, spec: Value) -> Draft {
    Draft {
        id: Some(id(name)),
        name: Some(name.to_uppercase()),
        labels: [("family".to_owned(), label.to_owned())].into(),
        spec,
    }
}

fn codes(error: &Error) -> Vec<(&str, &str)> {
    error.list().iter().map(|v| (v.pointer.as_str(), v.code.as_str())).collect()
}

impl Shop {
    async fn open() -> Self {
        let store = MemoryStore::new();
        let keys = LocalKeys::generate("k1", &SystemEntropy).unwrap();
        let engine = engine(&store, &keys);
        let org = OrgId::new("acme").unwrap();
        let new = Draft { spec: json!({}), ..Draft::default() };
        engine.resources().create(&org, "organization", new, &Actor::host()).await.unwrap();
        Self { store, keys, engine, org }
    }

    async fn create(&self, name: &str, label: &str) -> Document {
        self.try_create(draft(name, label, red())).await.unwrap()
    }

    async fn try_create(&self, draft: Draft) -> Result<Document> {
        self.engine.resources().create(&self.org, "color", draft, &painter()).await
    }

    async fn get(&self, name: &str) -> Result<Document> {
        self.engine.resources().get(&self.org, "color", &id(name)).await
    }

    async fn replace(&self, name: &str, spec: Value, expect: Expect) -> Result<Document> {
        let draft = draft(name, "warm", spec);
        let resources = self.engine.resources();
        resources.replace(&self.org, "color", &id(name), draft, expect, &painter()).await
    }

    async fn patch(&self, name: &str, patch: Value, expect: Expect) -> Result<Document> {
        let resources = self.engine.resources();
        resources.merge_patch(&self.org, "color", &id(name), &patch, expect, &painter()).await
    }

    /// The recipe as the store holds it.
    async fn sealed(&self, name: &str) -> Value {
        let stored = self.store.resource(&self.org, "color", &id(name)).await.unwrap().unwrap();
        stored.spec["recipe"].clone()
    }

    /// The recipe as another node opens it.
    async fn opened(&self, name: &str) -> (String, String) {
        let history = self.store.history(&self.org, "color", &id(name), None, 1).await.unwrap();
        let index = Index::new(&self.store, &self.keys);
        let mixed = index.compiled(&history[0]);
        (mixed.css.clone(), mixed.recipe.expose().to_owned())
    }
}

/// A node's index of its own, on the same store.
struct Index(icp_core::resource::Index);

impl Index {
    fn new(store: &MemoryStore, keys: &LocalKeys) -> Self {
        use icp_core::access::OrganizationSpec;
        use icp_core::resource::{KindRegistry, Services};
        let mut kinds = KindRegistry::new();
        kinds.register::<OrganizationSpec>().unwrap().register::<Color>().unwrap();
        let services = Services {
            sealer: Arc::new(icp_core::secret::Sealer::new(Arc::new(keys.clone()))),
            profiles: Arc::default(),
            signers: Arc::default(),
            connectors: Arc::default(),
            transformer: Arc::new(InPlace),
            lookups: Default::default(),
            sources: Arc::default(),
        };
        let capacity = std::num::NonZeroUsize::MIN;
        let store = Arc::new(store.clone());
        Self(icp_core::resource::Index::new(store, Arc::new(kinds), services, capacity))
    }

    fn compiled(&self, record: &icp_core::resource::Record) -> Arc<Mixed> {
        self.0.compiled::<Mixed>(record).unwrap()
    }

    async fn css(&self, org: &OrgId) -> Vec<(String, String)> {
        let entry = self.0.org(org).await.unwrap();
        let mixed = entry.compiled::<Mixed>("color");
        mixed.map(|(id, mixed)| (id.to_string(), mixed.unwrap().css.clone())).collect()
    }
}

#[tokio::test]
async fn a_color_is_created_and_read_with_its_secret_masked() {
    let shop = Shop::open().await;
    let created = shop.create("red", "warm").await;
    assert_eq!(shop.get("red").await.unwrap(), created);
    assert_eq!(
        created.spec,
        json!({
            "code": { "space": "rgb", "red": 255, "green": 0, "blue": 0 },
            "gloss": 0,
            "recipe": MASK,
        })
    );
    assert_eq!((created.kind.as_str(), created.version), ("color", 1));
    assert_eq!(shop.opened("red").await, ("rgb(255 0 0)".into(), CANARY.into()));
    let typed = shop.engine.resources().get_typed::<Color>(&shop.org, &id("red")).await.unwrap();
    assert!(matches!(typed.spec.code, Shade::Rgb { red: 255, green: 0, blue: 0 }));
    assert_eq!((typed.spec.recipe, typed.revision), (Secret::Masked, created.revision));
    let error = shop.try_create(draft("red", "warm", red())).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExists);

    let generated = shop.try_create(Draft { id: None, ..draft("x", "y", red()) }).await.unwrap();
    assert!(generated.id.as_str().starts_with("res_"), "{}", generated.id);
}

#[tokio::test]
async fn a_masked_recipe_stays_and_a_plain_one_replaces_it() {
    let shop = Shop::open().await;
    let first = shop.create("red", "warm").await;
    let sealed = shop.sealed("red").await;
    let mut spec = first.spec.clone();
    spec["gloss"] = json!(40);
    let second = shop.replace("red", spec, Expect::Present).await.unwrap();
    assert_eq!((second.version, &second.spec["gloss"]), (2, &json!(40)));
    assert_eq!(shop.sealed("red").await, sealed);

    let patched = shop.patch("red", json!({ "spec": { "gloss": 41 } }), Expect::Present).await;
    assert_eq!(patched.unwrap().spec["gloss"], 41);
    assert_eq!(shop.sealed("red").await, sealed);

    let patch = json!({ "spec": { "recipe": "two parts madder" } });
    let changed = shop.patch("red", patch, Expect::Present).await.unwrap();
    assert_eq!(changed.spec["recipe"], MASK);
    assert_ne!(shop.sealed("red").await, sealed);
    assert_eq!(shop.opened("red").await.1, "two parts madder");
}

#[tokio::test]
async fn what_does_not_fit_is_refused_with_its_place() {
    let shop = Shop::open().await;
    shop.create("red", "warm").await;
    let sealed = shop.sealed("red").await;
    let with = |field: &str, value: Value| {
        let mut spec = red();
        spec[field] = value;
        spec
    };
    for (spec, expected) in [
        (with("recipe", sealed.clone()), ("/spec/recipe", "type")),
        (with("recipe", json!(MASK)), ("/spec/recipe", "secret_masked")),
        (with("recipe", json!([CANARY])), ("/spec/recipe", "type")),
        (with("gloss", json!(101)), ("/spec/gloss", "maximum")),
        (with("glos", json!(CANARY)), ("/spec/glos", "unknown_field")),
        (with("code", json!({ "space": "cmyk" })), ("/spec/code/space", "enum")),
        (with("code", json!({ "space": "named", "name": "" })), ("/spec/code/name", "empty")),
        (
            with("code", json!({ "space": "named", "name": "x", "nam": 1 })),
            ("/spec/code/nam", "unknown_field"),
        ),
    ] {
        let error = shop.try_create(draft("new", "x", spec.clone())).await.unwrap_err();
        assert_eq!(codes(&error), [expected], "{spec}");
        assert!(!format!("{error} {error:?}").contains(CANARY), "{error:?}");
    }
    let error = shop.replace("red", with("recipe", sealed), Expect::Present).await.unwrap_err();
    assert_eq!(codes(&error), [("/spec/recipe", "type")]);
    assert_eq!(shop.get("new").await.unwrap_err().code(), Code::ResourceNotFound);
}

#[tokio::test]
async fn a_stale_revision_is_a_conflict() {
    let shop = Shop::open().await;
    let first = shop.create("red", "warm").await;
    let expect = Expect::Revision(first.revision);
    let second = shop.replace("red", red(), expect).await.unwrap();
    assert!(second.revision > first.revision);
    let patch = json!({ "spec": { "gloss": 1 } });
    for error in [
        shop.replace("red", red(), expect).await.unwrap_err(),
        shop.patch("red", patch, expect).await.unwrap_err(),
        shop.engine
            .resources()
            .delete(&shop.org, "color", &id("red"), expect, &painter())
            .await
            .unwrap_err(),
    ] {
        assert_eq!(error.code(), Code::RevisionConflict);
        assert!(error.message().contains(&second.revision.to_string()), "{error}");
    }
    assert_eq!(shop.get("red").await.unwrap(), second);
}

#[tokio::test]
async fn a_patch_changes_what_it_names() {
    let shop = Shop::open().await;
    shop.create("red", "warm").await;
    let patch = json!({
        "name": null,
        "labels": { "family": null, "season": "autumn" },
        "spec": { "code": { "space": "named", "name": "brick", "red": null, "green": null, "blue": null } },
    });
    let patched = shop.patch("red", patch, Expect::Present).await.unwrap();
    assert_eq!(patched.name, None);
    assert_eq!(patched.labels, [("season".to_owned(), "autumn".to_owned())].into());
    assert_eq!(patched.spec["code"], json!({ "space": "named", "name": "brick" }));
    assert_eq!(shop.opened("red").await, ("brick".into(), CANARY.into()));
}

#[tokio::test]
async fn colors_are_listed_by_label_and_page() {
    let shop = Shop::open().await;
    for name in ["e", "a", "d", "b", "c"] {
        shop.create(name, if "ace".contains(name) { "vowel-ish" } else { "rest" }).await;
    }
    let page = |label: Option<&str>, after: Option<&str>| {
        let labels = label.map(|label| ("family".to_owned(), label.to_owned()));
        let page = PageQuery { after: after.map(id), limit: 2 };
        let query = ListQuery { labels: labels.into_iter().collect(), page };
        let (resources, org) = (shop.engine.resources().clone(), shop.org.clone());
        async move {
            let found = resources.list(&org, "color", &query).await.unwrap();
            assert!(found.items.iter().all(|item| item.spec["recipe"] == MASK));
            let ids: Vec<_> = found.items.iter().map(|item| item.id.to_string()).collect();
            (ids.concat(), found.more)
        }
    };
    assert_eq!(page(None, None).await, ("ab".into(), true));
    assert_eq!(page(None, Some("b")).await, ("cd".into(), true));
    assert_eq!(page(None, Some("d")).await, ("e".into(), false));
    assert_eq!(page(Some("vowel-ish"), None).await, ("ac".into(), true));
    assert_eq!(page(Some("vowel-ish"), Some("c")).await, ("e".into(), false));
    assert_eq!(page(Some("none"), None).await, (String::new(), false));
}

#[tokio::test]
async fn every_change_is_in_the_history_the_feed_and_the_audit_log() {
    let shop = Shop::open().await;
    let before = shop.store.head().await.unwrap();
    shop.create("red", "warm").await;
    shop.patch("red", json!({ "spec": { "gloss": 7 } }), Expect::Present).await.unwrap();
    let resources = shop.engine.resources();
    let red = id("red");
    resources.delete(&shop.org, "color", &red, Expect::Present, &painter()).await.unwrap();
    assert_eq!(shop.get("red").await.unwrap_err().code(), Code::ResourceNotFound);

    let versions = resources.history(&shop.org, "color", &red, None, 10).await.unwrap();
    let gloss: Vec<_> = versions.iter().map(|v| (v.version, v.spec["gloss"].clone())).collect();
    assert_eq!(gloss, [(2, json!(7)), (1, json!(0))]);
    assert!(versions.iter().all(|version| version.spec["recipe"] == MASK));

    let changes = shop.store.changes(before, 10).await.unwrap();
    let feed: Vec<_> = changes.iter().map(|c| (c.version, c.deleted)).collect();
    assert_eq!(feed, [(1, false), (2, false), (3, true)]);
    assert!(changes.is_sorted_by(|a, b| a.revision < b.revision));
    assert!(changes.iter().all(|change| !change.spec.to_string().contains(CANARY)));

    let query = AuditQuery { kind: Some("color".into()), ..AuditQuery::default() };
    let rows = resources.audit_log(&shop.org, &query).await.unwrap().items;
    let actions: Vec<_> = rows.iter().map(|row| row.action.as_str()).collect();
    assert_eq!(actions, ["delete", "update", "create"]);
    assert!(rows.iter().all(|row| row.actor == painter() && row.id == red));
    assert_eq!((&rows[2].before, &rows[0].after), (&None, &None));
    assert!(rows[2].after.is_some() && rows[2].after == rows[1].before);
    assert_ne!(rows[1].before, rows[1].after);
}

#[tokio::test]
async fn another_node_uses_it_after_the_feed() {
    let shop = Shop::open().await;
    let there = Index::new(&shop.store, &shop.keys);
    assert_eq!(there.css(&shop.org).await, []);
    shop.create("red", "warm").await;
    let written = shop.create("wall", "warm").await;
    assert_eq!(there.css(&shop.org).await, []);
    while there.0.feed_once(1).await.unwrap() > 0 {}
    there.0.at_least(written.revision).await;
    let colors = [("red", "rgb(255 0 0)"), ("wall", "rgb(255 0 0)")];
    let colors = colors.map(|(id, css)| (id.to_owned(), css.to_owned()));
    assert_eq!(there.css(&shop.org).await, colors);

    // A second engine on the store serves the kind as well, whoever wrote it.
    let second = engine(&shop.store, &shop.keys);
    let seen = second.resources().get(&shop.org, "color", &id("wall")).await.unwrap();
    assert_eq!(seen, written);
    second
        .resources()
        .delete(&shop.org, "color", &id("wall"), Expect::Revision(seen.revision), &painter())
        .await
        .unwrap();
    assert_eq!(shop.get("wall").await.unwrap_err().code(), Code::ResourceNotFound);
    there.0.feed_once(10).await.unwrap();
    assert_eq!(there.css(&shop.org).await, colors[..1]);
}

#[tokio::test]
async fn nothing_stored_shows_the_secret() {
    let shop = Shop::open().await;
    shop.create("red", "warm").await;
    shop.patch("red", json!({ "spec": { "recipe": format!("{CANARY}-2") } }), Expect::Present)
        .await
        .unwrap();
    for change in shop.store.changes(Revision::ZERO, 100).await.unwrap() {
        assert!(!format!("{change:?}").contains(CANARY), "{change:?}");
    }
    let sealed = shop.sealed("red").await;
    assert!(sealed["$sealed"].is_string(), "{sealed}");
}

#[tokio::test]
async fn without_keys_a_secret_is_not_taken() {
    let store = MemoryStore::new();
    let engine = Engine::builder(store.clone()).kind::<Color>().build().unwrap();
    let org = OrgId::new("acme").unwrap();
    let new = Draft { spec: json!({}), ..Draft::default() };
    engine.resources().create(&org, "organization", new, &Actor::host()).await.unwrap();
    let new = draft("red", "warm", red());
    let error = engine.resources().create(&org, "color", new, &painter()).await.unwrap_err();
    assert_eq!(error.code(), Code::KeyUnreadable);
    assert_eq!(store.resource(&org, "color", &id("red")).await.unwrap(), None);
}

#[test]
fn the_kind_describes_itself() {
    let store = MemoryStore::new();
    let engine = Engine::builder(store).kind::<Color>().build().unwrap();
    let kind = engine.resources().kinds().get("color").unwrap();
    assert_eq!((kind.name(), kind.plural()), ("color", "colors"));
    assert_eq!(kind.schema()["properties"]["gloss"]["maximum"], 100);
    let names: Vec<_> = engine.resources().kinds().iter().map(|kind| kind.name()).collect();
    assert_eq!(
        names,
        [
            "api_key",
            "color",
            "event_source",
            "event_type",
            "integration",
            "issuer",
            "lookup",
            "organization",
            "role",
            "user"
        ]
    );
}
