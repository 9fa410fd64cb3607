set local role warble_owner;

grant select on communities, users to warble_auth, warble_api, warble_ops;
grant insert on outbox, activity to warble_auth, warble_api;

-- register and login
grant insert on users to warble_auth;
grant select, insert, update on credentials to warble_auth;
grant select, insert, update, delete on refresh_tokens, login_failures, known_networks to warble_auth;

-- users, tweet, retweet, timeline
grant select, insert on tweets to warble_api;
grant update (text, deleted_at) on tweets to warble_api;
grant select, insert, update on tweet_counts to warble_api;
grant select, insert, update, delete on idempotency_keys to warble_api;

-- relay and the readout of experiments
grant select, update, delete on outbox to warble_ops;
grant select on tweets, tweet_counts, activity to warble_ops;

-- Everyone may read which migrations the database has, because the probe does.
grant select on schema_version to warble_auth, warble_api, warble_ops;
