"""What chat completions and Responses share: errors, namespaces of functions, fields of OpenAI alone."""
