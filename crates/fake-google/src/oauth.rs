//! The token endpoint and the access tokens it gives out.
//!
//! <https://developers.google.com/identity/protocols/oauth2/web-server#offline>,
//! <https://developers.google.com/identity/protocols/oauth2/service-account>

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::{Value, json};

use crate::clock::Dice;
use crate::error::ApiError;
use crate::http::{Request, Response};

const SCOPE: &str = "https://www.googleapis.com/auth/calendar";
const JWT_GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

#[derive(Debug)]
pub struct OAuth {
    /// Whether requests need a valid token. Off by default.
    pub required: bool,
    /// How long a token lives, in seconds.
    pub lifetime: i64,
    /// Each refresh replaces the refresh token (RFC 6749, 6), and the one before is worth nothing any more.
    pub rotates: bool,
    tokens: BTreeMap<String, AccessToken>,
    revoked: BTreeSet<String>,
    all_revoked: bool,
    /// Client ids, service accounts, or users whom these ask for, and the error they get.
    refused: BTreeMap<String, String>,
    /// Refresh tokens (or service accounts), and the calendar that is the primary one of whom they belong to.
    users: BTreeMap<String, String>,
    /// Public keys of service accounts: PKCS #1, DER. Of others the signature need only be there.
    keys: BTreeMap<String, Vec<u8>>,
}

#[derive(Debug)]
struct AccessToken {
    expires: DateTime<Utc>,
    grant: String,
}

impl Default for OAuth {
    fn default() -> Self {
        Self {
            required: false,
            lifetime: 3599,
            rotates: false,
            tokens: BTreeMap::new(),
            revoked: BTreeSet::new(),
            all_revoked: false,
            refused: BTreeMap::new(),
            users: BTreeMap::new(),
            keys: BTreeMap::new(),
        }
    }
}

/// `{"error","error_description"}` (RFC 6749, 5.2).
struct Refusal(u16, String, String);

impl OAuth {
    pub fn register(&mut self, token: &str, expires: DateTime<Utc>) {
        self.tokens.insert(token.into(), AccessToken { expires, grant: String::new() });
    }

    /// Every access token given out so far is worthless; the grants stay.
    pub fn expire_tokens(&mut self) {
        self.tokens.clear();
    }

    /// The user withdraws consent: one refresh token (or service account), or all.
    pub fn revoke(&mut self, grant: Option<&str>) {
        match grant {
            Some(grant) => {
                self.revoked.insert(grant.into());
                self.tokens.retain(|_, token| token.grant != grant);
            }
            None => {
                self.all_revoked = true;
                self.tokens.clear();
            }
        }
    }

    pub fn restore_grants(&mut self) {
        self.revoked.clear();
        self.all_revoked = false;
    }

    /// `error` is what Google calls it, with its description after a colon, or without one as Google usually puts it; `None`
    /// takes it back.
    pub fn refuse_client(&mut self, client: &str, error: Option<&str>) {
        match error {
            Some(error) => drop(self.refused.insert(client.into(), error.into())),
            None => drop(self.refused.remove(client)),
        }
    }

    pub fn register_key(&mut self, account: &str, public_key: Vec<u8>) {
        self.keys.insert(account.into(), public_key);
    }

    pub fn sign_in(&mut self, grant: &str, calendar: &str) {
        self.users.insert(grant.into(), calendar.into());
    }

    pub fn check(&self, request: &Request, now: DateTime<Utc>) -> Result<(), ApiError> {
        match self.token_of(request) {
            _ if !self.required => Ok(()),
            Some(token) if token.expires > now => Ok(()),
            _ => Err(ApiError::invalid_credentials()),
        }
    }

    /// The primary calendar of who asks, where that is known.
    pub fn user(&self, request: &Request) -> Option<&str> {
        self.users.get(&self.token_of(request)?.grant).map(String::as_str)
    }

    fn token_of(&self, request: &Request) -> Option<&AccessToken> {
        let (scheme, token) = request.header("authorization")?.split_once(' ')?;
        self.tokens.get(token.trim()).filter(|_| scheme.eq_ignore_ascii_case("bearer"))
    }

    pub fn status(&self) -> Value {
        json!({
            "requireAuth": self.required,
            "tokenLifetime": self.lifetime,
            "tokens": self.tokens.len(),
            "allRevoked": self.all_revoked,
            "revoked": self.revoked,
            "refusedClients": self.refused,
            "rotateRefreshTokens": self.rotates,
            "users": self.users,
            "keys": self.keys.keys().collect::<Vec<_>>(),
        })
    }

    /// `POST /token`.
    pub fn token(&mut self, body: &[u8], now: DateTime<Utc>, dice: &mut Dice) -> Response {
        let form: BTreeMap<String, String> = form_urlencoded::parse(body).into_owned().collect();
        let field = |name: &str| form.get(name).map_or("", String::as_str);
        let grant = match field("grant_type") {
            "refresh_token" => self.refresh(field("client_id"), field("client_secret"), field("refresh_token")),
            JWT_GRANT => self.service_account(field("assertion"), now),
            "" => Err(Refusal(400, "invalid_request".into(), "Required parameter is missing: grant_type".into())),
            other => Err(Refusal(400, "unsupported_grant_type".into(), format!("Invalid grant_type: {other}"))),
        };
        match grant {
            Ok((grant, scope)) => {
                let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
                let token = format!("ya29.{}", dice.word(alphabet, 64));
                let expires = now + TimeDelta::seconds(self.lifetime);
                let mut answer = json!({
                    "access_token": token, "expires_in": self.lifetime, "scope": scope, "token_type": "Bearer",
                });
                if self.rotates && field("grant_type") == "refresh_token" {
                    let successor = format!("1//{}", dice.word(alphabet, 32));
                    answer["refresh_token"] = json!(successor);
                    self.revoked.insert(grant.clone());
                    if let Some(user) = self.users.get(&grant).cloned() {
                        self.users.insert(successor, user);
                    }
                }
                self.tokens.insert(token, AccessToken { expires, grant });
                Response::json(200, &answer)
            }
            Err(Refusal(status, error, description)) => {
                Response::json(status, &json!({ "error": error, "error_description": description }))
            }
        }
    }

    fn refresh(&self, client: &str, secret: &str, refresh: &str) -> Result<(String, String), Refusal> {
        if client.is_empty() || secret.is_empty() {
            return Err(Refusal(400, "invalid_request".into(), "Could not determine client ID from request.".into()));
        }
        self.check_client(client)?;
        if refresh.is_empty() {
            return Err(Refusal(400, "invalid_request".into(), "Missing required parameter: refresh_token".into()));
        }
        self.check_grant(refresh)?;
        Ok((refresh.into(), SCOPE.into()))
    }

    /// RFC 7523. The claims are checked as Google does; the signature where the account's public key is known.
    fn service_account(&self, assertion: &str, now: DateTime<Utc>) -> Result<(String, String), Refusal> {
        let invalid = |why: &str| Refusal(400, "invalid_grant".into(), format!("Invalid JWT: {why}"));
        let parts: Vec<&str> = assertion.split('.').collect();
        let [header, claims, signature] = parts[..] else { return Err(invalid("Must have three parts.")) };
        let signed = format!("{header}.{claims}");
        let read = |part: &str| -> Option<Value> {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok()?).ok()
        };
        let header = read(header).ok_or_else(|| invalid("The header cannot be read."))?;
        let claims = read(claims).ok_or_else(|| invalid("The claims cannot be read."))?;
        let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
        let is_good = self.keys.get(text("iss")).is_none_or(|key| {
            UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key).verify(signed.as_bytes(), &signature).is_ok()
        });
        if header.get("alg") != Some(&json!("RS256")) || signature.len() < 128 || !is_good {
            return Err(invalid("Invalid JWT Signature."));
        }
        let number = |name: &str| claims.get(name).and_then(Value::as_i64).unwrap_or_default();
        if text("iss").is_empty() || text("scope").is_empty() {
            return Err(Refusal(400, "invalid_scope".into(), "Empty or missing scope or issuer.".into()));
        }
        if !text("aud").ends_with("/token") {
            return Err(invalid("Failed audience check."));
        }
        let (issued, expires, now) = (number("iat"), number("exp"), now.timestamp());
        if expires > issued + 3600 || expires <= now || issued > now + 300 || issued < now - 3900 {
            return Err(invalid(
                "Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and \
                 exp values in the JWT claim.",
            ));
        }
        self.check_client(text("iss"))?;
        self.check_client(text("sub"))?;
        self.check_grant(text("iss"))?;
        Ok((text("iss").into(), text("scope").into()))
    }

    fn check_client(&self, client: &str) -> Result<(), Refusal> {
        match self.refused.get(client).map(String::as_str) {
            None => Ok(()),
            Some(refusal) => {
                let (error, description) = refusal.split_once(':').unwrap_or((refusal, usual_description(refusal)));
                let status = match error {
                    "unauthorized_client" | "invalid_client" | "deleted_client" | "disabled_client" => 401,
                    "access_denied" | "org_internal" => 403,
                    _ => 400,
                };
                Err(Refusal(status, error.to_owned(), description.trim().to_owned()))
            }
        }
    }

    fn check_grant(&self, grant: &str) -> Result<(), Refusal> {
        match self.all_revoked || self.revoked.contains(grant) {
            true => Err(Refusal(400, "invalid_grant".into(), "Token has been expired or revoked.".into())),
            false => Ok(()),
        }
    }
}

/// What Google says where a client, or the user whom a service account asks for, is refused.
fn usual_description(error: &str) -> &'static str {
    match error {
        "unauthorized_client" => {
            "Client is unauthorized to retrieve access tokens using this method, or client not authorized for any of the \
             scopes requested."
        }
        "invalid_client" => "The OAuth client was not found.",
        "deleted_client" => "The OAuth client was deleted.",
        "disabled_client" => "The OAuth client was disabled.",
        "access_denied" => "Requested client not authorized.",
        "invalid_grant" => "Not a valid email.",
        _ => "",
    }
}
