"""Anthropic's Messages protocol over chats: requests become chats, the chunks of answers messages."""
