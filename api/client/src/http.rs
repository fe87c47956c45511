//! One request and its answer.

use std::time::Duration;

use engine_core::request::Problem;
use reqwest::{Method, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{ClientError, Endpoint};

/// How long the engine may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take; streams have no limit.
const ANSWER: Duration = Duration::from_mins(2);

/// Requests to one engine.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    client: reqwest::Client,
    base: Url,
    endpoint: Endpoint,
    by: String,
}

/// Segments of a path and parameters.
pub(crate) struct Place<'p>(pub(crate) &'p [&'p str], pub(crate) Vec<(&'static str, String)>);

impl Http {
    pub(crate) fn new(endpoint: Endpoint, by: String) -> Result<Self, ClientError> {
        let bad = || ClientError::BadEndpoint { endpoint: endpoint.endpoint.clone() };
        let base: Url = endpoint.endpoint.parse().map_err(|_| bad())?;
        if base.scheme() != "http" || base.cannot_be_a_base() {
            return Err(bad());
        }
        // A proxy of the environment has nothing to do with an engine on this machine.
        let client = reqwest::Client::builder().no_proxy().connect_timeout(CONNECT).build().map_err(|_| bad())?;
        Ok(Self { client, base, endpoint, by })
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint.endpoint
    }

    fn url(&self, place: &Place) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(place.0);
        }
        if !place.1.is_empty() {
            url.query_pairs_mut().extend_pairs(&place.1);
        }
        url
    }

    fn request(&self, method: Method, place: &Place) -> reqwest::RequestBuilder {
        self.client.request(method, self.url(place)).bearer_auth(&self.endpoint.token).header("plinth-by", &self.by)
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Response, ClientError> {
        let unreachable = |source| ClientError::Unreachable { endpoint: self.endpoint().to_owned(), source };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.text().await.map_err(unreachable)?;
        match serde_json::from_str::<Problem>(&text) {
            Ok(problem) => Err(ClientError::Problem(Box::new(problem))),
            Err(_) => Err(self.strange(format!("status {status}"))),
        }
    }

    pub(crate) fn strange(&self, reason: impl Into<String>) -> ClientError {
        ClientError::Answer { endpoint: self.endpoint().to_owned(), reason: reason.into() }
    }

    async fn json<T: DeserializeOwned>(&self, response: Response) -> Result<T, ClientError> {
        let bytes = response.bytes().await.map_err(|error| self.strange(error.to_string()))?;
        serde_json::from_slice(&bytes).map_err(|error| self.strange(error.to_string()))
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, place: Place<'_>) -> Result<T, ClientError> {
        let response = self.answer(self.request(Method::GET, &place).timeout(ANSWER)).await?;
        self.json(response).await
    }

    pub(crate) async fn text(&self, place: Place<'_>) -> Result<String, ClientError> {
        let response = self.answer(self.request(Method::GET, &place).timeout(ANSWER)).await?;
        response.text().await.map_err(|error| self.strange(error.to_string()))
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        place: Place<'_>,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let response = self.answer(self.request(Method::POST, &place).json(body).timeout(ANSWER)).await?;
        self.json(response).await
    }

    /// The answer is not looked at.
    pub(crate) async fn post_for_nothing(&self, place: Place<'_>, body: &impl Serialize) -> Result<(), ClientError> {
        self.answer(self.request(Method::POST, &place).json(body).timeout(ANSWER)).await.map(drop)
    }

    /// Nothing is said, and the answer is not looked at.
    pub(crate) async fn post_empty(&self, place: Place<'_>) -> Result<(), ClientError> {
        self.answer(self.request(Method::POST, &place).timeout(ANSWER)).await.map(drop)
    }

    /// The answer is not looked at.
    pub(crate) async fn delete(&self, place: Place<'_>) -> Result<(), ClientError> {
        self.answer(self.request(Method::DELETE, &place).timeout(ANSWER)).await.map(drop)
    }

    pub(crate) async fn delete_for<T: DeserializeOwned>(&self, place: Place<'_>) -> Result<T, ClientError> {
        let response = self.answer(self.request(Method::DELETE, &place).timeout(ANSWER)).await?;
        self.json(response).await
    }

    /// A stream that is read as it comes.
    pub(crate) async fn stream(&self, place: &Place<'_>, last: Option<&str>) -> Result<Response, ClientError> {
        let mut request = self.request(Method::GET, place).header("accept", "text/event-stream");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        self.answer(request).await
    }

    pub(crate) async fn post_stream(&self, place: Place<'_>, body: &impl Serialize) -> Result<Response, ClientError> {
        self.answer(self.request(Method::POST, &place).json(body)).await
    }
}
