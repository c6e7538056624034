SELECT r.node, r.code, r.message, count(*) AS orders, min(r.payload->>'order_no') AS for_example FROM rejects r GROUP BY ALL ORDER BY orders DESC
