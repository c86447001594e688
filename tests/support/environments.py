"""`prod` with every option of the API on: what its settings can switch on at all."""

from __future__ import annotations

from infra.settings import Settings, load

ISSUER = {
    "issuer": "https://login.example.com/",
    "audiences": ["evergreen"],
    "jwks_url": "https://login.example.com/keys",
}
CERTIFICATE = "arn:aws:acm:us-east-1:111122223333:certificate/0f1e2d3c-0000-0000-0000-000000000000"


def settings() -> Settings:
    """The settings as if they stood in a file."""
    shipped = load("prod").model_dump()
    shipped["gateway"] |= {
        "jwt": [ISSUER],
        "iam": {"enabled": True, "accounts": ["444455556666"]},
        "domain": {"name": "api.example.com", "certificate_arn": CERTIFICATE, "minimum_tls": "1.3"},
        "max_body_bytes": 32_768,
        "manage_account_log_role": True,
    }
    shipped["guards"] = {"mask_pii": True, "toxicity": {}, "bedrock": {"guardrail_id": "gr1", "version": "2"}}
    shipped["guards"]["bedrock_checks"] = {"attacks": ["JAILBREAK"], "personal_data": ["NAME"]}
    shipped["fallbacks"] = [
        {"kind": "endpoint", "endpoint_name": "Small", "model_version": "s1", "region": "us-west-2"},
        {"kind": "bedrock", "model_id": "openai.gpt-oss-20b-1:0"},
    ]
    shipped["tracing"] = {"kind": "xray"}
    shipped["model"] |= {"input_token_price": 0.1, "output_token_price": 0.4}
    return Settings.model_validate(shipped)
