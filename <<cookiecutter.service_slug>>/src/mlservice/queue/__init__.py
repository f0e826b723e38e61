"""The predict path behind Kafka: messages of a topic are answered on another one."""
