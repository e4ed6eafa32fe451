-- A HAProxy filter that writes a model's version into a gRPC request.
--
-- The message is TorchServe's PredictionsRequest, and names no version so far. All of it has been waited for. A frame is
-- a flag (1 byte), the message's length (4 bytes) and the message; in this, fields may come in any order.

local MODEL_VERSION = 0x12 -- field 2, a string

local function varint(number) -- as protobuf has them: 7 bits a byte, the lowest first
  if number < 128 then
    return string.char(number)
  end
  return string.char(number % 128 + 128) .. varint(number // 128)
end

local Filter = { flags = filter.FLT_CFG_FL_HTX }
Filter.__index = Filter

function Filter:new()
  return setmetatable({}, Filter)
end

function Filter:start_analyze(txn, channel)
  if not channel:is_resp() then
    filter.register_data_filter(self, channel)
  end
end

function Filter:http_payload(txn, message)
  if self.written then
    return
  end
  local version = txn:get_var("txn.candidate")
  local compressed, length = string.unpack(">BI4", message:body(0, 5))
  local field = string.char(MODEL_VERSION) .. varint(#version) .. version
  local head = string.pack(">BI4", compressed, length + #field) .. field
  if message:set(head, 0, 5) ~= #head then
    return filter.ERROR
  end
  self.written = true
end

core.register_filter("grpc-version", Filter, function(instance)
  return instance
end)
