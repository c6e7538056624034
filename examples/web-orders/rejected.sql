SELECT message, count(*) AS orders, min(payload->>'order_no') AS for_example FROM rejects WHERE flow = 'web-orders' GROUP BY ALL ORDER BY orders DESC, message
