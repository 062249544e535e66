-- include: base fenced activities limiting relimiting waiting
-- Remove a limit; return 1 if there was one. ARGV: nonce, again, source, new version, kind, name.

local before = answered(ARGV[1], ARGV[2])
if before then
  return before
end
local kind, name = ARGV[5], ARGV[6]
local field = kind .. ':' .. name
local stored = redis.call('HGET', P .. 'limits', field)
if not stored then
  return 0
end
redis.call('HDEL', P .. 'limits', field)
redis.call('HSET', P .. 'limits', '=version', ARGV[4])
redis.call('DEL', P .. 'limit:' .. field)
if kind == 'workflow' then
  redis.call('DEL', P .. 'admitted:' .. name)
  for _, queue in ipairs(redis.call('SMEMBERS', P .. 'queues')) do
    local priorities = redis.call('SMEMBERS', P .. 'lanes:' .. queue)
    priorities[#priorities + 1] = 0
    for _, priority in ipairs(priorities) do
      local line = line_name(queue, priority, name)
      for _, id in ipairs(redis.call('ZRANGE', P .. line, 0, -1)) do
        local row = row_in_line(id, line)
        if row then
          come_back(id, row)
        end
      end
    end
  end
  flush()
else
  if kind == 'activity' then
    end_aside(name)
  end
  forget_keys(stored)
end
publish(ARGV[3])
return answer(ARGV[1], 1)
