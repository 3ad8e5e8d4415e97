use ring::signature::{ECDSA_P256_SHA256_FIXED, KeyPair, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

use super::*;

fn issuer(methods: Option<&[&str]>) -> Issuer {
    let mut json = json!({ "issuer": "https://a", "token_endpoint": "https://a/t" });
    if let Some(methods) = methods {
        json["token_endpoint_auth_methods_supported"] = json!(methods);
    }
    serde_json::from_value(json).unwrap()
}

#[test]
fn the_method_is_one_that_the_server_takes() {
    let cases: [(Option<&[&str]>, bool, bool, Method); 7] = [
        (None, false, false, Method::None),
        (None, true, false, Method::Basic),
        (Some(&["client_secret_post"]), true, false, Method::Post),
        (Some(&["client_secret_post", "client_secret_basic"]), true, false, Method::Basic),
        (Some(&["none"]), true, false, Method::None),
        (Some(&["private_key_jwt"]), false, true, Method::Jwt),
        (Some(&["tls_client_auth"]), true, false, Method::Basic),
    ];
    for (methods, secret, key, wanted) in cases {
        assert_eq!(Method::choose(&issuer(methods), secret, key), wanted, "{methods:?}");
    }
}

#[test]
fn an_assertion_is_signed_by_the_key_and_says_who_for_whom() {
    let rng = SystemRandom::new();
    let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).unwrap();
    let pem = format!("-----BEGIN PRIVATE KEY-----\\n{}\\n-----END PRIVATE KEY-----", STANDARD.encode(&der));
    let jwt = assertion("me", "https://a.example", &pem).unwrap();
    let (text, signature) = jwt.rsplit_once('.').unwrap();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.as_ref(), &rng).unwrap();
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.public_key().as_ref());
    key.verify(text.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
    let claims = URL_SAFE_NO_PAD.decode(text.split_once('.').unwrap().1).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!("me"), &json!("https://a.example")));
    for bad in ["", "hunter2", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"] {
        let why = assertion("me", "https://a.example", bad).unwrap_err();
        assert!(why.contains("private key") && (bad.is_empty() || !why.contains(bad)), "{why}");
    }
}

#[test]
fn a_secret_is_spelled_as_in_a_form() {
    let client = Client { id: "a b".into(), method: Method::Basic, proof: Some("p:w%".into()), registered: false };
    let mut form = Vec::new();
    let header = client.prove("https://a", &mut form).unwrap().unwrap();
    assert_eq!(header, format!("Basic {}", STANDARD.encode("a+b:p%3Aw%25")));
    assert!(form.is_empty());
}

/// Made for this test; it opens nothing.
const RSA: &str = "\
    MIIEvgIBADANBgkqhkiG9w0BAQEFAASCBKgwggSkAgEAAoIBAQDQQOqfN5vTQIphQAODWHn4zWJcIhychb/RSjp8SkLxRxlEzFZu \
    CfMdQPYQjYMvIDh4mXh1eIGqBnuN2/GlrP7YS3AJtAASSWyWaLTktrlIuxCIQIA70Bvd7JEH5Z6xvYMHLqZLQ7YwGyYF/FEw1sxw \
    wmSa14Zkz05MoilE788fab2pglfymVe9vyEV4qzFiy7SClFJeymZS2ske4+Y/lXfjd6m3hgv7KeN2KvvfUa7KVj0/IjX7CaUNCLz \
    ioiSO8pBMoKkSWgp0HeWCP1Isi1FUyluMWgC5ensQH5vrV4zS7Nd1kctgJj9aDhXS72BAQIR0d/Bx17AXkEzPhwCcw3PAgMBAAEC \
    ggEAWSvSysYm5Pf3yNh+KJmT8KMRAN5iXesvTVB5Zortyx5khX7xa0C7ZsVQF5pgl6c2Rv2ABNzKuKD5+q449HX00WzL1nvKpAno \
    gybmfiB3idr/ozfrMLFVnVsUZss9fmHlXwfskMG3mzWkvF9j7IOtGoNCTMMIetYBcvLktO3yREJe/CIRm4wLYoRTP4XGEXjeenV+ \
    TD7IboJ1UnWoq9NVIHT39wUQNUA5QyzPN2Op0igroD3/UiPwEAPt7k3MzBFAP9j0FWhz+d2mk9yVWMuYxDh+rKQjHZwfRY6grSNT \
    ggjVrc4cacc+ODKsSenvyJcmXWmtX+wx0phG4C+XpIasEQKBgQDrZAk6BWS2klgI+kUDlalL6+/cqYBeT7Nl/JJkLIfYYIcKwNdx \
    xbpfHWne720URgRUbvUhD2UmBOM3d/yUPiXe+6vo4CxgKOqb+U4hsanWlIj5L48ETijz/L0ZzgP84EG70m1h9HWYWDNe3ZtwKzCm \
    Hq0ZQCHEoTlBR4BQWmAoDQKBgQDifKMoDmWgw1WGrQWNrhOfncLMVSClngsTnbY8lDgn0XCcNsU2DqyKRhW0kWW9A59RZ9Fwk4gO \
    /gda8O3Xe9wmxxx8jVFdTCUcPdf8CSqpfU7qOh7Odi6Q82HWfADXogBkCypUidrHuZ1kBmBRQM4WihrhF+/9kdVrIEibgY4aSwKB \
    gQCVdIezMjd3AEYrNRRaqUy7qss6FNkviHVEfPBJ8Eg0Z112w2hHkZ66w4c0CFr+s1IOdgDoA8laMWI/FszlJuyOvsaw7pzeVTxY \
    2hr0o8RNPTQW2054ElRITiGW38qCZbT21y2iMz/zAZVkV1pZBuM1pmaLkL+gBCnBO+/JlQhWhQKBgQCLzM1VG1Xl3sy6/a/Q3WOl \
    gdbNE7q8IArMR+xGBmOHSINPGYuvq20bSNl7BMic3FCKCiBAcgBo6KqXmuHkwcKJeRv/UaeohCjf/tiD7RCVYBDHCascW9ywglqg \
    7xgCAjBlkHLHjfQqlkstg7YOUYckaIjg6kqr5Umr/1hyDI0vcwKBgH4Z9LfzBnmzX+g9MHV50I/yngVhsLKKDZXQqITKd0LKlZI4 \
    ywSdp8wHcuA2ZS1bgUldiunANjjtQP+pWbeQr6w9VO0MJxKX0Hddnq0pGq+hq2sxG8XnmrJ14MrsSOLQbGI+zHYxcVsTXBpVxIe3 \
    ozoYYPBA17verI2VnSg4Xvif";

#[test]
fn an_rsa_key_signs_too() {
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{RSA}\n-----END PRIVATE KEY-----");
    let jwt = assertion("me", "https://a.example", &pem).unwrap();
    let (text, signature) = jwt.rsplit_once('.').unwrap();
    let header = URL_SAFE_NO_PAD.decode(text.split_once('.').unwrap().0).unwrap();
    assert!(String::from_utf8(header).unwrap().contains("RS256"));
    let key = RsaKeyPair::from_pkcs8(&pem_body(&pem).unwrap()).unwrap();
    let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public().as_ref());
    key.verify(text.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
}
