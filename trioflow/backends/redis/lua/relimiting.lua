-- Included by the scripts that change limits.

-- Call it with each activity that waits under a key of a queue: its place, its token, its row (perhaps
-- `nil`), and what lets it wait there without a key.
local function each_under_key(queue, key, act)
  local name = lane_name(queue, key)
  local priorities = redis.call('SMEMBERS', P .. 'lanes:' .. name)
  priorities[#priorities + 1] = 0
  for _, priority in ipairs(priorities) do
    local place = 'visible' .. lane(name, priority)
    for _, token in ipairs(redis.call('ZRANGE', P .. place, 0, -1)) do
      local id, execution, command, life = parse_token(token)
      local row = load_activity(id, execution, command, life)
      act(place, token, row, function()
        row.limit_key = ''
        store_activity(id, execution, command, life, row)
        zadd('visible' .. open_lane(queue, row.priority), row.visible_at, token)
      end)
    end
  end
end

-- Make activities forget the keys that they have by a limit which has none any more: they would keep
-- them out of every look. `before` is that limit, packed, as it was; the change is stored already.
local function forget_keys(before)
  local limit = cmsgpack.unpack(before)
  local kind, name = limit.kind, limit.name
  if limit.key == nil then
    return
  end
  local limits = load_limits()
  local function concerns(row)
    if row.limit_key == '' or (kind == 'queue' and row.queue or row.activity) ~= name then
      return false
    end
    local own = kind == 'queue' and limits.activity[row.activity]
    return not (own and own.key ~= nil)
  end
  each_leased(function(_, token)
    local id, execution, command, life = parse_token(token)
    local row = load_activity(id, execution, command, life)
    if row and not row.damaged and concerns(row) then
      row.limit_key = ''
      store_activity(id, execution, command, life, row)
    end
  end)
  local queues = kind == 'queue' and { name } or redis.call('SMEMBERS', P .. 'queues')
  for _, queue in ipairs(queues) do
    for _, key in ipairs(redis.call('ZRANGE', P .. 'keys:' .. queue, 0, -1)) do
      each_under_key(queue, key, function(place, token, row, free)
        if row and not row.damaged and concerns(row) then
          zrem(place, token)
          free()
        end
      end)
    end
  end
  flush()
end

-- Put what was put aside of an activity where it was.
local function end_aside(activity)
  local key = aside_key(activity)
  for _, queue in ipairs(redis.call('SMEMBERS', P .. 'queues')) do
    each_under_key(queue, key, function(place, token, row, free)
      zrem(place, token)
      if row and not row.damaged then
        free()
      end
    end)
  end
  flush()
end

-- Store a limit, packed; what has begun still counts, unless its `per` differs.
local function store_limit(version, kind, name, limit, per, has_key)
  local field = kind .. ':' .. name
  local stored = redis.call('HGET', P .. 'limits', field)
  if stored and cmsgpack.unpack(stored).per ~= per then
    redis.call('DEL', P .. 'limit:' .. field)
  end
  redis.call('HSET', P .. 'limits', '=version', version, field, limit)
  if kind == 'workflow' and not stored then -- otherwise it is known who has begun
    local key = P .. 'admitted:' .. name
    redis.call('DEL', key)
    for _, status in ipairs({ 'running', 'suspended' }) do
      for _, id in ipairs(redis.call('ZRANGE', P .. 'status:' .. status, 0, -1)) do
        local row = redis.call(
          'HMGET', P .. 'i:' .. id, 'workflow', 'life', 'turns', 'execution', 'first', 'worker', 'deaths'
        )
        if row[1] == name then
          local begun = row[3] ~= '0' or (row[5] or '1') ~= row[4] or (row[6] or '') ~= ''
            or (row[7] or '') ~= ''
          if begun then
            redis.call('HSET', key, id, row[2] or '')
          end
        end
      end
    end
  elseif kind ~= 'workflow' and not has_key and stored then
    forget_keys(stored)
  end
end
