"""OpenAI's Responses protocol over chats: requests become chats, the chunks of answers events."""
