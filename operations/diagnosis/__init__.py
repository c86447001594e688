"""Why a deployment or an endpoint failed: evidence from the account, and a table that names the cause."""
