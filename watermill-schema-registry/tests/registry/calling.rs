//! What a call asks, how often, and what it makes of the answer.

use std::time::Duration;

use futures::future::join_all;
use watermill_core::cqrs::{Schema, SchemaKind, SchemaRegistry};
use watermill_schema_registry::{RegistryErrorKind, SchemaRegistryClient, SchemaRegistryConfig};

use crate::server::{Answer, Server};

#[tokio::test]
async fn a_schema_is_found_by_its_number_its_version_and_its_text() {
    let server = Server::start().await;
    let client = server.client();
    let (first, second) =
        (Schema::json("{}"), Schema::protobuf("syntax = \"proto3\";").reference("a", "b", 3));
    let id = client.register("rooms", &first).await.unwrap();
    assert_eq!(client.register("rooms", &first).await.unwrap(), id);
    let other = client.register("rooms", &second).await.unwrap();

    assert_eq!(*client.schema(id).await.unwrap(), first);
    let latest = client.latest("rooms").await.unwrap();
    assert_eq!((latest.id, latest.version, &*latest.subject), (other, 2, "rooms"));
    assert_eq!(latest.schema.kind(), SchemaKind::Protobuf);
    assert_eq!(latest.schema, second);
    assert_eq!(client.version("rooms", 1).await.unwrap().id, id);
    assert_eq!(client.versions("rooms").await.unwrap(), [1, 2]);
    assert_eq!(client.look_up("rooms", &first).await.unwrap().version, 1);
}

#[tokio::test]
async fn what_is_not_there_is_said_to_be_missing() {
    let server = Server::start().await;
    let client = server.client();
    client.register("rooms", &Schema::json("{}")).await.unwrap();
    let errors = [
        client.schema(7).await.unwrap_err(),
        client.version("rooms", 2).await.unwrap_err(),
        client.latest("guests").await.unwrap_err(),
        client.versions("guests").await.unwrap_err(),
        client.look_up("rooms", &Schema::avro("{}")).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), RegistryErrorKind::NotFound, "{error}");
        assert!(error.is_retryable());
        assert!(error.to_string().contains("not found"), "{error}");
    }
}

#[tokio::test]
async fn a_schema_that_does_not_go_with_those_before_it_is_refused_with_the_reason() {
    let server = Server::start().await;
    let client = server.client();
    client.register("rooms", &Schema::json("{}")).await.unwrap();
    server.fill("rooms");
    let newer = Schema::json("true");
    let error = client.register("rooms", &newer).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (RegistryErrorKind::Incompatible, false));
    let said = "register the schema of \"rooms\": the registry says 409: Schema being registered is incompatible: it is full";
    assert_eq!(error.to_string(), said);

    let compared = client.check("rooms", &newer).await.unwrap();
    assert_eq!((compared.is_compatible, &*compared.messages), (false, &["it is full".to_owned()][..]));
    assert!(client.check("guests", &newer).await.unwrap().is_compatible);
}

#[tokio::test]
async fn a_faulty_schema_is_refused_for_good() {
    let server = Server::start().await;
    let error = server.client().register("rooms", &Schema::avro("{")).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (RegistryErrorKind::Invalid, false));
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_registry_that_is_busy_or_silent_is_asked_again_until_it_answers() {
    let server = Server::start().await;
    let config = server.config().timeout(Duration::from_millis(200));
    let client = SchemaRegistryClient::new(config).unwrap();
    let busy = [Answer::Status(503), Answer::Busy(429, "0"), Answer::Never, Answer::Status(500)];
    server.next(busy);
    assert_eq!(client.register("rooms", &Schema::json("{}")).await.unwrap(), 1);
    assert_eq!(server.asked(), vec!["POST /api/subjects/rooms/versions"; 5]);
}

#[tokio::test]
async fn a_call_waits_no_longer_than_it_may_for_a_registry_that_asks_to_be_left_alone() {
    let server = Server::start().await;
    server.next([Answer::Busy(503, "30")]);
    let error = server.client().schema(1).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (RegistryErrorKind::Unavailable, true));
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_registry_that_is_away_is_said_to_be_when_the_calls_time_is_over() {
    let nobody = Server::start().await.url();
    let config = SchemaRegistryConfig::new(nobody).call_timeout(Duration::from_millis(50));
    let error = SchemaRegistryClient::new(config).unwrap().latest("rooms").await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (RegistryErrorKind::Unavailable, true));
    assert!(error.to_string().contains("cannot be reached"), "{error}");
}

#[tokio::test]
async fn the_next_url_is_asked_where_one_is_away_and_is_asked_first_from_then_on() {
    let (away, server) = (Server::start().await, Server::start().await);
    away.next(vec![Answer::Status(503); 2]);
    let client = SchemaRegistryClient::new(away.config().or_at(server.url())).unwrap();
    client.register("rooms", &Schema::json("{}")).await.unwrap();
    client.latest("rooms").await.unwrap();
    assert_eq!((away.asked().len(), server.asked().len()), (1, 2));
}

#[tokio::test]
async fn a_login_is_sent_with_every_request() {
    let server = Server::start().await;
    let basic = SchemaRegistryClient::new(server.config().basic_auth("ada", "pw")).unwrap();
    basic.register("rooms", &Schema::json("{}")).await.unwrap();
    assert_eq!(server.headers()["authorization"], "Basic YWRhOnB3");
    assert_eq!(server.headers()["content-type"], "application/vnd.schemaregistry.v1+json");
    let config = server.config().bearer_auth("token").header("x-tenant", "hotel");
    SchemaRegistryClient::new(config).unwrap().latest("rooms").await.unwrap();
    assert_eq!(
        (&server.headers()["authorization"], &server.headers()["x-tenant"]),
        (&"Bearer token".parse().unwrap(), &"hotel".parse().unwrap())
    );
    assert_eq!(server.headers()["accept"], "application/vnd.schemaregistry.v1+json");
}

#[tokio::test]
async fn what_does_not_let_us_in_or_is_no_registry_is_told_at_once() {
    let server = Server::start().await;
    let config = server.config().answer_bytes(100);
    let client = SchemaRegistryClient::new(config).unwrap();
    for answer in [
        Answer::Status(401),
        Answer::Status(403),
        Answer::Status(404),
        Answer::Status(302),
        Answer::Text("<html>".to_owned()),
        Answer::Text("\"much\"".repeat(100)),
    ] {
        server.next([answer]);
        let error = client.latest("rooms").await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (RegistryErrorKind::Refused, false), "{error}");
    }
    assert_eq!(server.asked().len(), 6);
}

#[tokio::test]
async fn where_schemas_are_registered_by_others_they_are_looked_up() {
    let server = Server::start().await;
    let config = server.config().register_schemas(false).normalize(true);
    let client = SchemaRegistryClient::new(config).unwrap();
    let schema = Schema::json("{}");
    assert!(client.number("rooms", &schema).await.is_err());
    let id = server.client().register("rooms", &schema).await.unwrap();
    assert_eq!(client.number("rooms", &schema).await.unwrap(), id);
    assert_eq!(SchemaRegistry::register(&client, "rooms", &schema).await.unwrap(), id);
    assert_eq!(server.asked().last().unwrap(), "POST /api/subjects/rooms?normalize=true");
}

#[tokio::test]
async fn any_text_is_a_subject_but_one_that_would_be_a_step_in_the_path() {
    let server = Server::start().await;
    let client = server.client();
    for subject in ["a/b", "a b", "ü", "100%", "a?b#c"] {
        client.register(subject, &Schema::json("{}")).await.unwrap();
        assert_eq!(client.latest(subject).await.unwrap().subject, subject);
    }
    let asked = server.asked().len();
    for subject in ["", ".", ".."] {
        let error = client.latest(subject).await.unwrap_err();
        assert_eq!(error.kind(), RegistryErrorKind::Invalid);
    }
    assert_eq!(server.asked().len(), asked);
}

#[tokio::test]
async fn however_many_need_a_schema_at_a_time_the_registry_is_asked_once() {
    let server = Server::start().await;
    server.keep(7, serde_json::json!({ "schema": "{}", "schemaType": "JSON" }));
    server.next([Answer::AfterTheGate]);
    let client = server.client();
    let asking = tokio::spawn({
        let client = client.clone();
        async move { join_all((0..50).map(|_| client.schema(7))).await }
    });
    server.is_asked().await;
    server.open_the_gate();
    for found in asking.await.unwrap() {
        assert_eq!(found.unwrap().text(), "{}");
    }
    client.schema(7).await.unwrap();
    assert_eq!(server.asked(), ["GET /api/schemas/ids/7"]);
}
