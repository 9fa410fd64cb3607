package wire

import "strings"

// names has, for each query parameter that lists names, the values that X knows, from its API description and its client libraries.
// All are accepted; the answer has those that Warble stores.
var names = map[string][]string{
	"tweet.fields": tweetFields,
	"post.fields":  tweetFields,
	"user.fields": strings.Fields(`affiliation confirmed_email connection_status created_at description entities id
		is_identity_verified location most_recent_tweet_id name parody pinned_tweet_id profile_banner_url
		profile_image_url protected public_metrics receives_your_dm subscribes_to_you subscription subscription_type url
		username verified verified_followers_count verified_type withheld`),
	"media.fields": strings.Fields(`alt_text duration_ms height media_key non_public_metrics organic_metrics
		preview_image_url promoted_metrics public_metrics type url variants width`),
	"poll.fields":  strings.Fields(`duration_minutes end_datetime id options voting_status`),
	"place.fields": strings.Fields(`contained_within country country_code full_name geo id name place_type`),
	"expansions": strings.Fields(`affiliation.user_id article.cover_media article.media_entities attachments.media_keys
		attachments.media_source_tweet attachments.poll_ids author_id author_screen_name creator_id edit_history_tweet_ids
		entities.mentions.username entities.note.mentions.username geo.place_id host_ids in_reply_to_user_id
		invited_user_ids most_recent_tweet_id owner_id participant_ids pinned_tweet_id referenced_tweets.id
		referenced_tweets.id.attachments.media_keys referenced_tweets.id.author_id sender_id speaker_ids topic_ids`),
	"exclude": {"replies", "retweets"},
}

var tweetFields = strings.Fields(`article article_title attachments author_id card_uri community_id context_annotations
	conversation_id created_at display_text_range edit_controls edit_history_tweet_ids entities geo id in_reply_to_user_id
	lang matched_media_notes media_metadata non_public_metrics note_request_suggestions note_tweet organic_metrics
	paid_partnership possibly_sensitive promoted_metrics public_metrics referenced_tweets reply_settings scopes source
	suggested_source_links suggested_source_links_with_counts text username withheld`)
