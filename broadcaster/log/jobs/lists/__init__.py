"""Lists of generations, chats and models."""
